//! What a container asks of its node, with the arithmetic.

use super::kubernetes::Manifest;
use super::numbers::{
    BASE_BYTES, CONNECTION_BYTES, KERNEL_BYTES, MODEL_FACTOR, MODELS, PROBES_MILLICORES,
};
use super::options::ModelBytesSource;
use super::yaml::{Node, map, text};

impl Manifest {
    /// Requests and limits.
    pub(super) fn resources(&self) -> Node {
        let numbers = &self.numbers;
        let workers = self.server.config.predict_workers;
        let cpu = text(format!("{}m", numbers.cpu_millicores)).because(format!(
            "{workers} x 1000m, a core for each of --predict-workers + {PROBES_MILLICORES}m for probes and sockets. No CPU limit: throttling stops all threads of a pod, those that answer probes too"
        ));
        let memory = || text(format!("{}Mi", numbers.memory_mib));
        let requests = map([
            ("cpu", cpu),
            ("memory", memory().because(self.memory_why())),
        ]);
        let limits = map([(
            "memory",
            memory().because("as requested: what is promised is there"),
        )]);
        map([("requests", requests), ("limits", limits)])
    }

    fn memory_why(&self) -> String {
        let numbers = &self.numbers;
        let model = match self.server.model_source {
            ModelBytesSource::Embedded => "the embedded model".to_owned(),
            ModelBytesSource::File => "the model file".to_owned(),
            ModelBytesSource::Assumed => {
                "assumed, as the model file is not where this was printed".to_owned()
            }
        };
        format!(
            "{} Mi for the server itself + {MODELS} models (one serves, one loads) x {MODEL_FACTOR} x {} Ki ({model}) + {} Mi --max-buffered + {} connections (--max-connections + --max-probe-connections) x {} Ki (stack and buffer {} Ki, the kernel's buffers {} Ki), rounded up",
            BASE_BYTES >> 20,
            numbers.model_file_bytes.div_ceil(1 << 10),
            tenths(self.server.config.max_buffered as u64),
            numbers.connections,
            CONNECTION_BYTES >> 10,
            (CONNECTION_BYTES - KERNEL_BYTES) >> 10,
            KERNEL_BYTES >> 10,
        )
    }
}

/// Bytes in MiB, to a tenth where they are not whole.
fn tenths(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    let rounded = (mebibytes * 10.0).ceil() / 10.0;
    rounded.to_string()
}
