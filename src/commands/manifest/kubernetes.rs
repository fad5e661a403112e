//! `lanekeeper manifest kubernetes`: a Deployment and the objects around it.
//!
//! The shapes are those of Kubernetes' API reference (apps/v1, v1, policy/v1, autoscaling/v2); the
//! numbers are [`PodNumbers`], each with its arithmetic next to it.

use humantime::format_duration;

use super::numbers::{
    LIVENESS_PERIOD_MAX, LIVENESS_SHARE, LOADING, PodNumbers, ProbeNumbers, TERMINATION_MARGIN,
    TIMEOUT_MAX,
};
use super::options::PodServer;
use super::yaml::{Node, flag, list, map, number, stream, text};
use crate::config::{KubernetesArgs, StallPolicy};
use crate::error::StartError;
use crate::lifecycle::LAST_ANSWERS;

/// The user id in the container; no image or node uses it.
const USER: u32 = 65_532;

/// The Service's port.
const SERVICE_PORT: u16 = 80;

/// The CPU utilization, in percent of what is requested, that the autoscaler aims at.
const UTILIZATION: u64 = 70;

/// The autoscaler's maximum number of pods, as a multiple of its minimum.
const REPLICAS_FACTOR: i32 = 4;

/// Ports below this one need a privilege, unless the system is configured otherwise.
const PRIVILEGED_PORTS: u16 = 1024;

/// What the manifests are made of.
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) replicas: i32,
    pub(super) server: PodServer,
    pub(super) numbers: PodNumbers,
    pub(super) probed_port: PortReference,
}

/// How a probe names its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortReference {
    /// By the name that the container gives it.
    Name,
    /// By its number, where ports have no names.
    Number,
}

/// Writes the manifests for these options.
///
/// # Errors
///
/// What `serve` would refuse, and options that a pod cannot have.
pub(super) fn manifests(args: KubernetesArgs) -> Result<String, StartError> {
    let server = PodServer::new(args.serve)?;
    let manifest = Manifest {
        name: args.name,
        image: args.image,
        replicas: args.replicas,
        numbers: PodNumbers::new(&server.config, server.model_bytes),
        server,
        probed_port: PortReference::Name,
    };
    let about = about(&manifest);
    stream([
        (about.as_str(), manifest.deployment()),
        (
            "Who predicts asks the Service; it has the pods whose /readyz passes.",
            manifest.service(),
        ),
        (
            "Lets nodes be drained one pod at a time.",
            manifest.disruption_budget(),
        ),
        (
            "Adds pods while the CPU is short. Where Prometheus serves the autoscaler, \
             lanekeeper_saturation_ratio counts predictions that wait, too.",
            manifest.autoscaler(),
        ),
    ])
}

/// What stands above the first document.
fn about(manifest: &Manifest) -> String {
    let volume = match manifest.server.model_directory {
        Some(_) => format!(
            " The model file is to be on the PersistentVolumeClaim {}, which is not among these objects.",
            manifest.volume_claim()
        ),
        None => String::new(),
    };
    format!(
        "Printed by lanekeeper {}. The numbers follow from the options of serve below: where one \
         changes, print this again.{volume}",
        env!("CARGO_PKG_VERSION")
    )
}

impl Manifest {
    /// The claim of the model's volume.
    fn volume_claim(&self) -> String {
        format!("{}-model", self.name)
    }

    /// What selects the pods.
    fn selector(&self) -> Node {
        map([
            ("app.kubernetes.io/name", text("lanekeeper")),
            ("app.kubernetes.io/instance", text(&*self.name)),
        ])
    }

    /// Every object's labels.
    fn labels(&self) -> Node {
        map([
            ("app.kubernetes.io/name", text("lanekeeper")),
            ("app.kubernetes.io/instance", text(&*self.name)),
            ("app.kubernetes.io/component", text("model-server")),
        ])
    }

    fn object(&self, version: &str, kind: &str, spec: Node) -> Node {
        map([
            ("apiVersion", text(version)),
            ("kind", text(kind)),
            (
                "metadata",
                map([("name", text(&*self.name)), ("labels", self.labels())]),
            ),
            ("spec", spec),
        ])
    }

    fn deployment(&self) -> Node {
        let numbers = &self.numbers;
        let rolling_update = map([
            (
                "maxUnavailable",
                number(0, "no pod goes before its successor is ready"),
            ),
            ("maxSurge", number(1, "one more than there are, meanwhile")),
        ]);
        let strategy = map([
            ("type", text("RollingUpdate")),
            ("rollingUpdate", rolling_update),
        ]);
        let template = map([
            (
                "metadata",
                map([
                    ("labels", self.labels()),
                    ("annotations", self.annotations()),
                ]),
            ),
            ("spec", self.pod()),
        ]);
        let spec = map([
            ("selector", map([("matchLabels", self.selector())])),
            ("strategy", strategy),
            (
                "progressDeadlineSeconds",
                number(
                    numbers.progress_deadline.as_secs(),
                    format!(
                        "2 x {} s of startupProbe: a second start may do what the first did not",
                        numbers.startup.noticed_within().as_secs()
                    ),
                ),
            ),
            ("template", template),
        ]);
        self.object("apps/v1", "Deployment", spec)
    }

    /// The annotations that Prometheus' pod discovery uses in its usual configuration.
    fn annotations(&self) -> Node {
        let (port, why) = match self.server.probe_port {
            Some(port) => (port, "--probe-listen, where the metrics are"),
            None => (self.server.port, "--listen, as --probe-listen is none"),
        };
        map([
            ("prometheus.io/scrape", text("true")),
            ("prometheus.io/port", text(port.to_string()).because(why)),
            ("prometheus.io/path", text("/metrics")),
        ])
    }

    fn pod(&self) -> Node {
        let config = &self.server.config;
        let mut fields = vec![
            ("automountServiceAccountToken", flag(false)),
            ("enableServiceLinks", flag(false)),
            (
                "terminationGracePeriodSeconds",
                number(
                    self.numbers.termination_grace.as_secs(),
                    format!(
                        "{} --drain-grace + {} --drain-timeout + {} for the last answers + {} of margin, rounded up",
                        format_duration(self.numbers.drain_grace),
                        format_duration(config.drain_timeout),
                        format_duration(LAST_ANSWERS),
                        format_duration(TERMINATION_MARGIN),
                    ),
                ),
            ),
            ("securityContext", self.pod_security()),
            ("containers", list([self.container()])),
        ];
        if self.server.model_directory.is_some() {
            let claim = text(self.volume_claim()).because(format!(
                "to be there, with the model file in its root, readable to user {USER}; ReadOnlyMany where pods are on several nodes"
            ));
            let claim = map([("claimName", claim), ("readOnly", flag(true))]);
            let volume = map([("name", text("model")), ("persistentVolumeClaim", claim)]);
            fields.push(("volumes", list([volume])));
        }
        map(fields)
    }

    fn pod_security(&self) -> Node {
        let mut fields = vec![
            ("runAsNonRoot", flag(true)),
            (
                "runAsUser",
                number(USER, "by convention, a user without rights in any image"),
            ),
            ("runAsGroup", number(USER, "the group of that user")),
            ("seccompProfile", map([("type", text("RuntimeDefault"))])),
        ];
        let lowest = self.server.lowest_port();
        if lowest < PRIVILEGED_PORTS {
            let value = text(lowest.to_string()).because(format!(
                "the lowest port listened on: those below {PRIVILEGED_PORTS} want a capability otherwise"
            ));
            let sysctl = map([
                ("name", text("net.ipv4.ip_unprivileged_port_start")),
                ("value", value),
            ]);
            fields.push(("sysctls", list([sysctl])));
        }
        map(fields)
    }

    fn container(&self) -> Node {
        let server = &self.server;
        let args = server
            .args
            .iter()
            .map(|argument| text(&*argument.text).because(&*argument.why));
        let mut fields = vec![
            ("name", text("lanekeeper")),
            ("image", text(&*self.image)),
            ("args", list([text("serve")].into_iter().chain(args))),
            ("ports", self.ports()),
            ("startupProbe", self.startup_probe()),
            ("livenessProbe", self.liveness_probe()),
            ("readinessProbe", self.readiness_probe()),
            ("resources", self.resources()),
            ("securityContext", self.container_security()),
        ];
        if let Some(file) = &server.termination_log {
            let file = text(&**file).because("--termination-log, which gets the stall report");
            fields.push(("terminationMessagePath", file));
        }
        let policy = text("FallbackToLogsOnError")
            .because("where there is no stall report, the last lines of the log");
        fields.push(("terminationMessagePolicy", policy));
        if let Some(directory) = &server.model_directory {
            let mount = map([
                ("name", text("model")),
                (
                    "mountPath",
                    text(&**directory).because("the directory of --model"),
                ),
                ("readOnly", flag(true)),
            ]);
            fields.push(("volumeMounts", list([mount])));
        }
        map(fields)
    }

    /// What a container may do.
    pub(super) fn container_security(&self) -> Node {
        map([
            ("allowPrivilegeEscalation", flag(false)),
            ("readOnlyRootFilesystem", flag(true)),
            ("capabilities", map([("drop", list([text("ALL")]))])),
        ])
    }

    fn ports(&self) -> Node {
        let port = |name: &str, port: u16, why: &str| {
            map([("name", text(name)), ("containerPort", number(port, why))])
        };
        let main = port("http", self.server.port, "--listen");
        let probe = self
            .server
            .probe_port
            .map(|number| port("probes", number, "--probe-listen"));
        list([main].into_iter().chain(probe))
    }

    /// A probe, with the reasons for its three numbers.
    fn probe(&self, path: &str, numbers: &ProbeNumbers, whys: [String; 3]) -> Node {
        let port = match (self.probed_port, self.server.probe_port) {
            (PortReference::Number, probe) => number(probe.unwrap_or(self.server.port), "--listen"),
            (PortReference::Name, Some(_)) => text("probes"),
            (PortReference::Name, None) => text("http").because("--probe-listen none"),
        };
        let [period, timeout, threshold] = whys;
        map([
            ("httpGet", map([("path", text(path)), ("port", port)])),
            ("periodSeconds", number(numbers.period.as_secs(), period)),
            ("timeoutSeconds", number(numbers.timeout.as_secs(), timeout)),
            (
                "failureThreshold",
                number(numbers.failure_threshold, threshold),
            ),
        ])
    }

    pub(super) fn startup_probe(&self) -> Node {
        let numbers = &self.numbers.startup;
        let threshold = format!(
            "{} x {} s: {} to find, read and check the model file + one trial, at most --canary-timeout ({}), rounded up",
            numbers.failure_threshold,
            numbers.period.as_secs(),
            format_duration(LOADING),
            format_duration(self.server.config.canary_timeout()),
        );
        let whys = [
            "a pod that is ready waits for this at the most".to_owned(),
            "the period".to_owned(),
            threshold,
        ];
        self.probe("/startupz", numbers, whys)
    }

    pub(super) fn liveness_probe(&self) -> Node {
        let (numbers, config) = (&self.numbers.liveness, &self.server.config);
        let (period, threshold) = (numbers.period.as_secs(), numbers.failure_threshold);
        let (stuck, since) = match config.verdicts.stall_policy {
            StallPolicy::All => ("whose workers are all stuck", "the last of them"),
            StallPolicy::Any => ("with a stuck worker", "it"),
        };
        let whys = [
            format!(
                "--stall-timeout ({}) / {LIVENESS_SHARE}, rounded, 1 to {LIVENESS_PERIOD_MAX}",
                format_duration(config.stall_timeout)
            ),
            timeout_why(numbers),
            format!(
                "a pod {stuck} is told to end at most {} --stall-timeout + {} tick + {threshold} x {period} s = {} after {since} took up its prediction, one that answers nothing after {threshold} x {period} s + {} s; either then has terminationGracePeriodSeconds",
                format_duration(config.stall_timeout),
                format_duration(config.tick()),
                format_duration(self.numbers.restarted_within(config)),
                numbers.timeout.as_secs(),
            ),
        ];
        self.probe("/livez", numbers, whys)
    }

    pub(super) fn readiness_probe(&self) -> Node {
        let numbers = &self.numbers.readiness;
        let (period, threshold) = (numbers.period.as_secs(), numbers.failure_threshold);
        let whys = [
            "often: a verdict costs the server microseconds".to_owned(),
            timeout_why(numbers),
            format!(
                "{threshold} x {period} s: out of rotation at most {} s after /readyz fails; one answer that is lost on its way turns nothing",
                numbers.noticed_within().as_secs(),
            ),
        ];
        self.probe("/readyz", numbers, whys)
    }

    fn service(&self) -> Node {
        let port = map([
            ("name", text("http")),
            (
                "port",
                number(SERVICE_PORT, "HTTP's own, so that clients need name none"),
            ),
            (
                "targetPort",
                text("http").because(format!("{}, --listen", self.server.port)),
            ),
            ("appProtocol", text("http")),
        ]);
        let spec = map([("selector", self.selector()), ("ports", list([port]))]);
        self.object("v1", "Service", spec)
    }

    fn disruption_budget(&self) -> Node {
        let spec = map([
            (
                "maxUnavailable",
                number(
                    1,
                    "one pod less at a time, so that a single replica can be moved too",
                ),
            ),
            (
                "unhealthyPodEvictionPolicy",
                text("AlwaysAllow").because("a pod that is not ready holds up no drain of a node"),
            ),
            ("selector", map([("matchLabels", self.selector())])),
        ]);
        self.object("policy/v1", "PodDisruptionBudget", spec)
    }

    fn autoscaler(&self) -> Node {
        let target = map([
            ("apiVersion", text("apps/v1")),
            ("kind", text("Deployment")),
            ("name", text(&*self.name)),
        ]);
        let numbers = &self.numbers;
        let aimed_at = numbers.cpu_millicores * UTILIZATION / 100;
        let workers = self.server.config.predict_workers as u64;
        let utilization = number(
            UTILIZATION,
            format!(
                "percent of {}m requested = {aimed_at}m: workers busy {} % of the time (/ {workers} x 1000m); much above that waiting times grow steeply",
                numbers.cpu_millicores,
                aimed_at / (workers * 10),
            ),
        );
        let target_value = map([
            ("type", text("Utilization")),
            ("averageUtilization", utilization),
        ]);
        let resource = map([("name", text("cpu")), ("target", target_value)]);
        let metric = map([("type", text("Resource")), ("resource", resource)]);
        let spec = map([
            ("scaleTargetRef", target),
            (
                "minReplicas",
                number(
                    self.replicas,
                    "--replicas; the Deployment names none, or applying it again would undo the autoscaler's",
                ),
            ),
            (
                "maxReplicas",
                number(
                    self.replicas.saturating_mul(REPLICAS_FACTOR),
                    format!("{REPLICAS_FACTOR} x {} --replicas", self.replicas),
                ),
            ),
            ("metrics", list([metric])),
        ]);
        self.object("autoscaling/v2", "HorizontalPodAutoscaler", spec)
    }
}

/// The reason for a probe's timeout.
fn timeout_why(numbers: &ProbeNumbers) -> String {
    if numbers.timeout < numbers.period {
        return "answers take milliseconds; what takes this long is the node".to_owned();
    }
    format!("the period, at most {TIMEOUT_MAX} s; answers take milliseconds")
}
