//! Deployments: each is a served model with everything that is its own. The lanes serve all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::models::slot::ModelSlot;
use crate::vitals::DeploymentVitals;

/// The id of the deployment that a path without a model's name asks for.
const DEFAULT_ID: &str = "default";

/// A deployment's id, unique in its registry.
pub type ModelId = Arc<str>;

/// A served model and everything that is its own.
#[derive(Debug)]
pub struct Deployment {
    /// Its id.
    pub id: ModelId,
    /// The model; empty until one is loaded and was tried.
    pub slot: ModelSlot,
    /// Its stamps and counters.
    pub vitals: DeploymentVitals,
}

impl Deployment {
    /// Makes a deployment without a model.
    pub fn new(id: ModelId) -> Self {
        Deployment {
            id,
            slot: ModelSlot::default(),
            vitals: DeploymentVitals::default(),
        }
    }
}

/// All deployments by their ids. Nobody waits to read it.
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
    /// The deployment that a path without a model's name asks for.
    pub fn default_deployment(&self) -> &Arc<Deployment> {
        &self.default
    }

    /// All deployments, as they are now, by their ids.
    pub fn all(&self) -> Vec<Arc<Deployment>> {
        self.deployments.load().values().cloned().collect()
    }
}
