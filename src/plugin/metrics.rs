//! What operators count of plugins, as Prometheus text.
//!
//! Nothing here is written by a warm call that succeeds. How many calls there were, their counters know anyway; how long they
//! take is measured for every call of a process, but of a module for one in [`SAMPLED`] alone: reading the clock twice costs
//! a fifth of a short call, and what one in so many takes is what they all take.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::Kind;
use crate::runner::Stats;

/// Of so many calls of a module, one is timed.
pub(super) const SAMPLED: u64 = 64;

/// The upper bounds of the histogram's buckets, in nanoseconds, and as they are written, in seconds.
const BOUNDS: [(u64, &str); 16] = [
    (1_000, "0.000001"),
    (5_000, "0.000005"),
    (10_000, "0.00001"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (30_000_000_000, "30"),
];

/// What is counted of one plugin beside its calls.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// By [`Kind`], in the order of `Kind::ALL`.
    errors: [AtomicU64; Kind::ALL.len()],
    /// Timed calls by their bucket alone; those past the last bound are in `took_all`.
    took: [AtomicU64; BOUNDS.len()],
    took_all: AtomicU64,
    took_ns: AtomicU64,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
    /// What the pools of versions that were replaced had counted by then.
    pools: Mutex<Stats>,
}

impl Meter {
    /// A version with this pool was replaced; none: it has no pool.
    pub(super) fn keep(&self, pool: Option<Stats>) {
        if let Some(stats) = pool {
            let counted = Stats { max: 0, idle: 0, in_use: 0, waiting: 0, ..stats };
            let mut kept = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = kept.and(&counted);
        }
    }

    /// A pool with what those before it had counted.
    pub(super) fn with_kept(&self, pool: Stats) -> Stats {
        pool.and(&self.pools.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call ended with an error.
    #[cold]
    pub(super) fn failed(&self, kind: Kind) {
        if let Some(errors) = self.errors.get(kind as usize) {
            errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call took so long.
    pub(super) fn took(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some((_, bucket)) = BOUNDS.iter().zip(&self.took).find(|((bound, _), _)| nanoseconds <= *bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.took_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        self.took_all.fetch_add(1, Ordering::Relaxed);
    }

    /// A reload ended.
    pub(super) fn reloaded(&self, well: bool) {
        let counter = if well { &self.reloads } else { &self.reloads_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted until now.
    pub(super) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            errors: self.errors.each_ref().map(read),
            took: self.took.each_ref().map(read),
            took_all: read(&self.took_all),
            took_ns: read(&self.took_ns),
            reloads: read(&self.reloads),
            reloads_failed: read(&self.reloads_failed),
        }
    }
}

/// What there is to say of a plugin at a moment.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Whether it can be called.
    pub up: bool,
    /// Calls since it was loaded.
    pub calls: u64,
    /// Calls that have not ended.
    pub in_flight: u64,
    /// How often it was started again after it ended unexpectedly.
    pub restarts: u64,
    /// The instances of a module.
    pub pool: Option<Stats>,
    /// Bytes: of all linear memories of a module's instances, or resident of a process.
    pub memory: Option<u64>,
    /// What was counted beside.
    pub counts: Counts,
}

/// What was counted of a plugin's calls and reloads.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    errors: [u64; Kind::ALL.len()],
    took: [u64; BOUNDS.len()],
    took_all: u64,
    took_ns: u64,
    reloads: u64,
    reloads_failed: u64,
}

impl Measures {
    /// Two plugins of one identity are one to whoever reads.
    fn add(&mut self, other: Measures) {
        self.up |= other.up;
        self.calls += other.calls;
        self.in_flight += other.in_flight;
        self.restarts += other.restarts;
        self.counts.add(&other.counts);
        self.memory = self.memory.into_iter().chain(other.memory).reduce(|a, b| a + b);
        self.pool = match (self.pool.take(), other.pool) {
            (Some(ours), Some(theirs)) => Some(ours.and(&theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        let each = |ours: &mut [u64], theirs: &[u64]| ours.iter_mut().zip(theirs).for_each(|(our, their)| *our += their);
        each(&mut self.errors, &other.errors);
        each(&mut self.took, &other.took);
        self.took_all += other.took_all;
        self.took_ns += other.took_ns;
        self.reloads += other.reloads;
        self.reloads_failed += other.reloads_failed;
    }
}

/// One series of a family: its labels beside the plugin, and its value.
type Series = (String, u64);
/// What a family has of one plugin.
type Read<'a> = &'a dyn Fn(&Measures) -> Vec<Series>;

/// The Prometheus text (version 0.0.4 of the format) of plugins by identity.
pub fn text(plugins: impl IntoIterator<Item = (String, Measures)>) -> String {
    let mut rows: BTreeMap<String, Measures> = BTreeMap::new();
    for (identity, measures) in plugins {
        rows.entry(identity).or_default().add(measures);
    }
    let mut text = Text { rows: &rows, text: String::new() };
    let one = |value: u64| vec![(String::new(), value)];
    text.family("flowplug_plugin_up", "gauge", "Whether the plugin can be called.", &|m| one(u64::from(m.up)));
    text.family("flowplug_calls_total", "counter", "Calls of the plugin.", &|m| one(m.calls));
    text.family("flowplug_calls_in_flight", "gauge", "Calls of the plugin that have not ended.", &|m| one(m.in_flight));
    text.family("flowplug_call_errors_total", "counter", "Calls that ended with an error, by its status.", &errors);
    text.durations();
    text.family("flowplug_restarts_total", "counter", "Starts after the plugin had ended unexpectedly.", &|m| one(m.restarts));
    text.family("flowplug_reloads_total", "counter", "Versions that took the place of another.", &|m| one(m.counts.reloads));
    text.family("flowplug_reload_failures_total", "counter", "Reloads that left the old version.", &|m| one(m.counts.reloads_failed));
    let bytes = "Bytes of the linear memories of a module, or resident of a process.";
    text.family("flowplug_memory_bytes", "gauge", bytes, &|m| m.memory.map(one).unwrap_or_default());
    text.pool();
    text.text
}

fn errors(measures: &Measures) -> Vec<Series> {
    let counted = Kind::ALL.iter().zip(measures.counts.errors).filter(|(_, count)| *count > 0);
    counted.map(|(kind, count)| (format!("code=\"{}\"", kind.name()), count)).collect()
}

struct Text<'a> {
    rows: &'a BTreeMap<String, Measures>,
    text: String,
}

impl Text<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str, read: Read<'_>) {
        self.head(name, kind, help);
        for (identity, measures) in self.rows {
            for (labels, value) in read(measures) {
                self.line(name, identity, &labels, &value.to_string());
            }
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, identity: &str, labels: &str, value: &str) {
        // What a manager found without an identity comes from a folder's name, and may hold anything.
        let plugin = identity.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let comma = if labels.is_empty() { "" } else { "," };
        let _infallible = writeln!(self.text, "{name}{{plugin=\"{plugin}\"{comma}{labels}}} {value}");
    }

    fn durations(&mut self) {
        let name = "flowplug_call_duration_seconds";
        self.head(name, "histogram", "How long calls take: all of a process, of a module one in 64.");
        let rows = self.rows;
        for (identity, Measures { counts: m, .. }) in rows {
            let mut below = 0;
            for ((_, bound), count) in BOUNDS.iter().zip(m.took) {
                below += count;
                self.line(&format!("{name}_bucket"), identity, &format!("le=\"{bound}\""), &below.to_string());
            }
            self.line(&format!("{name}_bucket"), identity, "le=\"+Inf\"", &m.took_all.max(below).to_string());
            let sum = Duration::from_nanos(m.took_ns).as_secs_f64();
            self.line(&format!("{name}_sum"), identity, "", &sum.to_string());
            self.line(&format!("{name}_count"), identity, "", &m.took_all.max(below).to_string());
        }
    }

    fn pool(&mut self) {
        let of = |read: fn(&Stats) -> Vec<(&'static str, usize)>| {
            move |m: &Measures| {
                let stats = m.pool.as_ref().map(read).unwrap_or_default();
                stats.into_iter().map(|(labels, value)| (labels.to_owned(), value as u64)).collect::<Vec<Series>>()
            }
        };
        let instances = "Instances of a module, by what they do.";
        let states = of(|s| vec![("state=\"idle\"", s.idle), ("state=\"in_use\"", s.in_use)]);
        self.family("flowplug_instances", "gauge", instances, &states);
        self.family("flowplug_instances_max", "gauge", "The most instances at a time.", &of(|s| vec![("", s.max)]));
        self.family("flowplug_instances_made_total", "counter", "Instances that were made.", &of(|s| vec![("", s.made)]));
        let ended = of(|s| {
            let d = &s.discarded;
            vec![("cause=\"broken\"", d.broken), ("cause=\"grown\"", d.grown), ("cause=\"spent\"", d.spent), ("cause=\"idle\"", d.idle)]
        });
        self.family("flowplug_instances_discarded_total", "counter", "Instances that were ended, by cause.", &ended);
        self.family("flowplug_calls_waiting", "gauge", "Calls that wait for an instance.", &of(|s| vec![("", s.waiting)]));
        self.family("flowplug_calls_waited_total", "counter", "Calls that waited for an instance.", &of(|s| vec![("", s.waits)]));
        self.family("flowplug_calls_busy_total", "counter", "Calls that waited in vain.", &of(|s| vec![("", s.busy)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets_and_errors_under_their_code() {
        let meter = Meter::default();
        for nanoseconds in [0, 1_000, 1_001, 30_000_000_000, 30_000_000_001] {
            meter.took(Duration::from_nanos(nanoseconds));
        }
        meter.failed(Kind::Timeout);
        meter.failed(Kind::Timeout);
        meter.reloaded(true);
        let measures = Measures { counts: meter.read(), ..Measures::default() };
        let text = text([("a\"b\\\n".to_owned(), measures)]);
        let plugin = r#"plugin="a\"b\\\n""#;
        for line in [
            format!("flowplug_call_duration_seconds_bucket{{{plugin},le=\"0.000001\"}} 2"),
            format!("flowplug_call_duration_seconds_bucket{{{plugin},le=\"0.000005\"}} 3"),
            format!("flowplug_call_duration_seconds_bucket{{{plugin},le=\"10\"}} 3"),
            format!("flowplug_call_duration_seconds_bucket{{{plugin},le=\"30\"}} 4"),
            format!("flowplug_call_duration_seconds_bucket{{{plugin},le=\"+Inf\"}} 5"),
            format!("flowplug_call_duration_seconds_count{{{plugin}}} 5"),
            format!("flowplug_call_duration_seconds_sum{{{plugin}}} 60.000002002"),
            format!("flowplug_call_errors_total{{{plugin},code=\"timeout\"}} 2"),
            format!("flowplug_reloads_total{{{plugin}}} 1"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("flowplug_memory_bytes{"));
    }

    #[test]
    fn plugins_of_one_identity_are_one() {
        let measures = |calls, memory| Measures {
            calls,
            memory,
            up: calls == 1,
            pool: Some(Stats { idle: 2, ..Stats::default() }),
            ..Measures::default()
        };
        let text =
            text([("p".to_owned(), measures(1, Some(5))), ("p".to_owned(), measures(2, None)), ("q".to_owned(), measures(7, Some(1)))]);
        for line in [
            "flowplug_plugin_up{plugin=\"p\"} 1",
            "flowplug_plugin_up{plugin=\"q\"} 0",
            "flowplug_calls_total{plugin=\"p\"} 3",
            "flowplug_calls_total{plugin=\"q\"} 7",
            "flowplug_memory_bytes{plugin=\"p\"} 5",
            "flowplug_instances{plugin=\"p\",state=\"idle\"} 4",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line} is not in\n{text}");
        }
        // Every name is declared once, before its series.
        let mut declared = std::collections::HashSet::new();
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => assert!(declared.insert(rest.split(' ').next().unwrap()), "{line}"),
                None if line.starts_with('#') => {}
                None => assert!(declared.iter().any(|name| line.starts_with(name)), "{line}"),
            }
        }
    }
}
