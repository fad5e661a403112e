//! Deployments: served models, each with everything that is its own. The lanes serve all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::models::slot::ModelSlot;
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

    /// Returns the present deployments by id.
    pub fn all(&self) -> Vec<Arc<Deployment>> {
        self.deployments.load().values().cloned().collect()
    }
}
