//! From options as typed to valid ones: a table of bounds, rules for pairs, and defaults that
//! depend on others.

use std::fmt;
use std::time::Duration;

use super::checks::{resolve, usage};
use super::{Config, FIELDS_CEILING, ProbeListen, Resources, ServeArgs, Sizing, Yielding};
use crate::error::StartError;

/// Connections on the main listener that waiting predictions must leave to others.
const SPARE_CONNECTIONS: usize = 16;

/// Default of `--predict-queue`, if connections allow as many. Predictions of 200 µs then wait up
/// to 100 ms, the minimum that `--max-wait auto` admits to, so that the wait is the limit.
const PREDICT_QUEUE: usize = 512;

/// Minimum of a duration that must not be zero.
const TIME_MIN: Duration = Duration::from_millis(10);

/// A value with its unit.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Quantity {
    Count(usize),
    Threads(usize),
    Bytes(usize),
    Time(Duration),
}

use Quantity::{Bytes, Count, Threads, Time};

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Count(count) => write!(f, "{count}"),
            Threads(count) => write!(f, "{count} threads"),
            Bytes(bytes) => write!(f, "{bytes} bytes"),
            Time(time) => humantime::format_duration(*time).fmt(f),
        }
    }
}

impl Quantity {
    /// The value without its unit, which is in the bound's text.
    fn given(self) -> String {
        match self {
            Count(value) | Threads(value) | Bytes(value) => value.to_string(),
            Time(_) => self.to_string(),
        }
    }
}

/// The bound of one option. It includes the remedy for a value beyond it, or nothing.
struct Rule {
    option: &'static str,
    value: Quantity,
    least: Option<(Quantity, &'static str)>,
    most: Option<(Quantity, &'static str)>,
}

impl Rule {
    /// A count of at least 1.
    fn some(option: &'static str, value: usize, remedy: &'static str) -> Self {
        Rule {
            option,
            value: Count(value),
            least: Some((Count(1), remedy)),
            most: None,
        }
    }

    fn at_most(mut self, most: usize) -> Self {
        self.most = Some((Count(most), ""));
        self
    }

    /// Threads, of which there is at least one.
    fn threads(option: &'static str, value: usize, remedy: &'static str) -> Self {
        Rule {
            option,
            value: Threads(value),
            least: Some((Count(1), remedy)),
            most: Some((Threads(1024), "more threads than cores do not help")),
        }
    }

    fn time(option: &'static str, value: Duration) -> Self {
        Rule {
            option,
            value: Time(value),
            least: Some((Time(TIME_MIN), "")),
            most: None,
        }
    }

    /// What is wrong with the value; `name` is the option, or the variable that gave it.
    fn check(&self, name: &str) -> Result<(), StartError> {
        let is_less = |bound: Quantity| match (self.value, bound) {
            (Threads(value), Count(least)) => value < least,
            (value, least) => value < least,
        };
        let (how, bound, remedy) = match (self.least, self.most) {
            (Some((least, remedy)), _) if is_less(least) => ("least", least, remedy),
            (_, Some((most, remedy))) if self.value > most => ("most", most, remedy),
            _ => return Ok(()),
        };
        let given = self.value.given();
        let remedy = match remedy {
            "" => String::new(),
            remedy => format!("; {remedy}"),
        };
        usage(format!(
            "{name} must be at {how} {bound}, but is {given}{remedy}"
        ))
    }
}

impl ServeArgs {
    /// The bound of each option by itself.
    #[rustfmt::skip]
    fn rules(&self, predict_workers: usize) -> Vec<Rule> {
        let limits = &self.limits;
        let queue = self.predict_queue.unwrap_or(PREDICT_QUEUE);
        let per_address = limits.max_connections_per_address.unwrap_or(1);
        let canary_timeout = self.verdicts.canary_timeout.unwrap_or(self.request_timeout);
        vec![
            Rule::some("--predict-queue", queue, "use --predict-workers to limit concurrency").at_most(1 << 20),
            Rule::threads("--probe-workers", self.probe_workers, "probes need a worker"),
            Rule::threads("--predict-workers", predict_workers, "somebody must compute"),
            Rule::some("--max-connections", limits.max_connections, "use --listen to choose who can connect").at_most(1 << 20),
            Rule::some("--max-probe-connections", limits.max_probe_connections, "--probe-listen none turns the listener off").at_most(4096),
            Rule::some("--max-connections-per-address", per_address, "leave it out for no limit"),
            Rule::some("--max-rows", limits.max_rows, "a request has at least one instance"),
            Rule::some("--max-fields", limits.max_fields, "every request has a Host field").at_most(FIELDS_CEILING),
            Rule {
                option: "--max-head",
                value: Bytes(limits.max_head),
                least: Some((Bytes(256), "curl's own head takes about 100")),
                most: None,
            },
            Rule::time("--stall-timeout", self.stall_timeout),
            Rule::time("--request-timeout", self.request_timeout),
            Rule::time("--canary-interval", self.canary_interval),
            Rule::time("--canary-timeout", canary_timeout),
            Rule::time("--head-timeout", limits.head_timeout),
            Rule::time("--idle-timeout", limits.idle_timeout),
            Rule::time("--body-timeout", limits.body_timeout),
            Rule::time("--write-timeout", limits.write_timeout),
        ]
    }

    /// The queue's length: as given, or as connections allow.
    ///
    /// # Errors
    ///
    /// Predictions alone could hold every connection.
    fn queue_beside(&self, predict_workers: usize) -> Result<usize, StartError> {
        let named = |option| self.variables.name(option);
        let connections = self.limits.max_connections;
        let admitted_max = connections.saturating_sub(SPARE_CONNECTIONS);
        let queue = self.predict_queue.unwrap_or_else(|| {
            let most = admitted_max.saturating_sub(predict_workers);
            PREDICT_QUEUE.min(most).max(1)
        });
        let admitted = queue.saturating_add(predict_workers);
        if admitted > admitted_max {
            return usage(format!(
                "{} and {} together must be at most {} less {SPARE_CONNECTIONS}, or predictions alone could hold every connection, but are {admitted} of {connections}; raise --max-connections or lower --predict-queue",
                named("--predict-queue"),
                named("--predict-workers"),
                named("--max-connections"),
            ));
        }
        Ok(queue)
    }

    /// Checks the options against each other and fills in what depends on the machine's
    /// `resources`.
    ///
    /// # Errors
    ///
    /// What must hold, what was given, and the remedy, in one line.
    pub fn validate(self, resources: Resources) -> Result<Config, StartError> {
        let named = |option| self.variables.name(option);
        let sizing = Sizing {
            resources,
            predict_workers: self.predict_workers,
            max_buffered: self.limits.max_buffered,
        };
        let predict_workers = sizing.predict_workers();
        for rule in self.rules(predict_workers) {
            rule.check(named(rule.option))?;
        }
        let predict_queue = self.queue_beside(predict_workers)?;
        let listen = resolve(named("--listen"), &self.listen)?;
        let probe_listen = match self.probe_listen.as_deref() {
            None => ProbeListen::Beside,
            Some("none") => ProbeListen::Off,
            Some(address) => ProbeListen::At(resolve(named("--probe-listen"), address)?),
        };
        Ok(Config {
            model: self.model,
            watch: self.watch,
            listen,
            probe_listen,
            socket_mode: self.socket_mode,
            predict_workers,
            probe_workers: self.probe_workers,
            predict_queue,
            request_timeout: self.request_timeout,
            stall_timeout: self.stall_timeout,
            canary_interval: self.canary_interval,
            drain_grace: self.drain_grace,
            drain_timeout: self.drain_timeout,
            shared_lane: self.shared_lane,
            main_metrics: self.main_metrics,
            console: self.console,
            no_console: self.no_console,
            hosting: self.hosting,
            routes: [
                (self.predict_route, "/predict"),
                (self.health_route, "/health"),
            ]
            .into_iter()
            .filter_map(|(other, own)| Some((other?, own)))
            .collect(),
            yielding: match self.yielding {
                Yielding::Auto if crate::platform::sys::kernel_has_slices() => Yielding::Slice,
                Yielding::Auto => Yielding::Nice,
                asked => asked,
            },
            max_buffered: sizing.max_buffered(),
            pace_later: self.limits.pace_later.unwrap_or(sizing.pace_later()),
            sizing,
            overload: self.overload,
            limits: self.limits,
            verdicts: self.verdicts,
            // clap has checked the value against the list of levels.
            log_level: self.log_level.parse().unwrap_or(log::LevelFilter::Info),
            log_format: self.log_format,
            access_log_rate: self.access_log_rate,
            variables: self.variables,
        })
    }
}
