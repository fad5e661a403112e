//! Deployments: served models, each with everything that is its own. The lanes serve all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::{Code, RequestError};
use crate::models::format::DEFAULT_VERSION;
use crate::models::slot::{ModelSlot, ModelVersion};
use crate::protocol::{ModelTarget, echo};
use crate::vitals::DeploymentVitals;

/// The id of the deployment for paths that name no model.
const DEFAULT_ID: &str = "default";

/// A deployment's id, unique in its registry.
pub type ModelId = Arc<str>;

/// A served model and everything that is its own.
#[derive(Debug)]
pub struct Deployment {
    /// Its id.
    pub id: ModelId,
    /// The model; empty until one has been loaded and tried.
    pub slot: ModelSlot,
    /// Its stamps and counters.
    pub vitals: DeploymentVitals,
}

impl Deployment {
    /// Makes a deployment that has no model yet.
    pub fn new(id: ModelId) -> Self {
        Deployment {
            id,
            slot: ModelSlot::default(),
            vitals: DeploymentVitals::default(),
        }
    }
}

/// All deployments by id. Reading never blocks.
#[derive(Debug)]
pub struct Registry {
    deployments: ArcSwap<BTreeMap<ModelId, Arc<Deployment>>>,
    default: Arc<Deployment>,
}

impl Default for Registry {
    /// Makes a registry with one deployment.
    fn default() -> Self {
        let default = Arc::new(Deployment::new(DEFAULT_ID.into()));
        let deployments = [(Arc::clone(&default.id), Arc::clone(&default))];
        Registry {
            deployments: ArcSwap::from_pointee(deployments.into()),
            default,
        }
    }
}

impl Registry {
    /// Returns the deployment for paths that name no model.
    pub fn default_deployment(&self) -> &Arc<Deployment> {
        &self.default
    }

    /// Returns the deployment that a path asks for.
    ///
    /// # Errors
    ///
    /// 404 with the name that there is, 503 while a model that the path names is loading.
    pub fn find(&self, target: &ModelTarget) -> Result<&Arc<Deployment>, RequestError> {
        if *target != ModelTarget::default() {
            self.model(target)?;
        }
        Ok(&self.default)
    }

    /// Returns the model that a path asks for.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find), and 503 while any model is loading.
    pub fn model(&self, target: &ModelTarget) -> Result<Arc<ModelVersion>, RequestError> {
        let version = self.default.slot.get();
        let version = version
            .ok_or_else(|| RequestError::new(Code::Loading, "model is loading").retry_after(1))?;
        let not_found = |text: String| Err(RequestError::new(Code::NotFound, text));
        if let Some(model) = target
            .model
            .as_deref()
            .filter(|model| *model != version.name())
        {
            return not_found(format!(
                "there is no model {}; there is {:?}",
                echo(model),
                version.name()
            ));
        }
        let own = version.loaded.version.as_str();
        match target.version.as_deref() {
            Some(other) if other != own && other != DEFAULT_VERSION => not_found(format!(
                "the model {:?} has no version {}; it has {own:?}",
                version.name(),
                echo(other)
            )),
            _ => Ok(version),
        }
    }

    /// Returns the present deployments by id.
    pub fn all(&self) -> Vec<Arc<Deployment>> {
        self.deployments.load().values().cloned().collect()
    }
}
