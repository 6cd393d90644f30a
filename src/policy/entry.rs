//! The bounds of one plugin: a preset, and what is named beside it.

use std::path::PathBuf;
use std::time::Duration;

use crate::manifest::node::Body;
use crate::manifest::reader::{Field, Reader, Section};
use crate::manifest::{HostPattern, IpRange, RuntimeKind, units};
use crate::policy::{KvQuota, Rates};

pub(super) const KEYS: [&str; 19] = [
    "preset",
    "runtimes",
    "http",
    "http_private",
    "http_max_response",
    "filesystem",
    "memory",
    "timeout",
    "max_instances",
    "fuel",
    "result_size",
    "message_size",
    "module_size",
    "module_functions",
    "load_timeout",
    "kv",
    "rates",
    "tcp",
    "require_digest",
];

/// A bound that is none grants what the manifest asks for.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) runtimes: Vec<RuntimeKind>,
    pub(super) http: Option<Vec<HostPattern>>,
    pub(super) http_private: Vec<IpRange>,
    pub(super) http_max_response: Option<u64>,
    pub(super) filesystem: Option<Vec<Root>>,
    pub(super) memory: Option<u64>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_instances: Option<u32>,
    pub(super) fuel: Option<u64>,
    pub(super) result_size: u64,
    pub(super) message_size: u64,
    pub(super) module_size: u64,
    pub(super) module_functions: u64,
    pub(super) load_timeout: Duration,
    pub(super) kv: KvQuota,
    pub(super) rates: Rates,
    pub(super) tcp: bool,
    pub(super) require_digest: bool,
}

/// A folder below which mounts are granted.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) root: PathBuf,
    pub(super) writable: bool,
}

#[derive(Clone, Copy)]
enum Preset {
    Strict,
    Trusted,
}

const PRESETS: [(&str, Preset); 2] = [("strict", Preset::Strict), ("trusted", Preset::Trusted)];

impl Entry {
    /// What a plugin gets that nobody vouches for.
    pub(super) fn strict() -> Self {
        Entry {
            runtimes: vec![RuntimeKind::Wasm],
            http: Some(Vec::new()),
            http_private: Vec::new(),
            http_max_response: Some(10 << 20),
            filesystem: Some(Vec::new()),
            memory: Some(64 << 20),
            timeout: Some(Duration::from_secs(30)),
            max_instances: Some(4),
            fuel: None,
            result_size: 16 << 20,
            message_size: 64 << 20,
            module_size: 64 << 20,
            module_functions: 100_000,
            load_timeout: Duration::from_secs(60),
            kv: KvQuota { key: 512, value: 1 << 20, total: 64 << 20 },
            rates: Rates { log: 1000, event: 1000, output: 1000 },
            tcp: false,
            require_digest: false,
        }
    }

    /// What its manifest asks for, within the figures that guard the host itself.
    fn trusted() -> Self {
        Entry {
            runtimes: vec![RuntimeKind::Wasm, RuntimeKind::Grpc],
            http: None,
            http_max_response: None,
            filesystem: None,
            memory: None,
            timeout: None,
            max_instances: None,
            ..Self::strict()
        }
    }

    fn preset(reader: &mut Reader, field: Option<Field<'_>>) -> Self {
        match reader.choice(field, "unknown preset", &PRESETS) {
            Some(Preset::Trusted) => Self::trusted(),
            Some(Preset::Strict) | None => Self::strict(),
        }
    }

    /// Reads a preset's name, or an object of bounds with an optional `preset`; absent is `strict`.
    pub(super) fn read(reader: &mut Reader, field: Option<Field<'_>>) -> Self {
        if let Some(Field { node, .. }) = &field
            && !matches!(node.body, Body::Map(_))
        {
            return Self::preset(reader, field);
        }
        let Some(section) = reader.section(field, &KEYS) else { return Self::strict() };
        let mut entry = Self::preset(reader, section.field("preset"));
        entry.read_wishes(reader, &section);
        entry.read_figures(reader, &section);
        entry
    }

    /// The bounds of what a manifest asks for.
    fn read_wishes(&mut self, reader: &mut Reader, section: &Section<'_>) {
        let kinds = [("wasm", RuntimeKind::Wasm), ("grpc", RuntimeKind::Grpc)];
        if section.field("runtimes").is_some() {
            let items = reader.list(section.field("runtimes"));
            self.runtimes = items.into_iter().filter_map(|item| reader.choice(Some(item), "unknown runtime", &kinds)).collect();
        }
        if section.field("http").is_some() {
            let items = reader.list(section.field("http"));
            let hosts = items.into_iter().filter_map(|item| reader.scalar(Some(item), "a host", |scalar| HostPattern::parse(&scalar.text)));
            self.http = Some(hosts.collect());
        }
        if section.field("http_private").is_some() {
            let items = reader.list(section.field("http_private"));
            let ranges = items.into_iter().filter_map(|item| reader.scalar(Some(item), "a range", |scalar| IpRange::parse(&scalar.text)));
            self.http_private = ranges.collect();
        }
        if section.field("filesystem").is_some() {
            let items = reader.list(section.field("filesystem"));
            self.filesystem = Some(items.into_iter().filter_map(|item| root(reader, item)).collect());
        }
        if let Some(response) = size(reader, section, "http_max_response") {
            self.http_max_response = Some(response);
        }
        if let Some(memory) = size(reader, section, "memory") {
            self.memory = Some(memory);
        }
        if let Some(timeout) = limit(reader, section, "timeout") {
            self.timeout = Some(timeout);
        }
        if let Some(instances) = count(reader, section, "max_instances", 1, u32::MAX.into()) {
            self.max_instances = u32::try_from(instances).ok();
        }
        if let Some(fuel) = count(reader, section, "fuel", 0, i64::MAX as u64) {
            self.fuel = Some(fuel).filter(|fuel| *fuel > 0);
        }
    }

    /// The bounds that no manifest asks about.
    fn read_figures(&mut self, reader: &mut Reader, section: &Section<'_>) {
        for (name, figure) in
            [("result_size", &mut self.result_size), ("message_size", &mut self.message_size), ("module_size", &mut self.module_size)]
        {
            *figure = size(reader, section, name).unwrap_or(*figure);
        }
        self.module_functions = count(reader, section, "module_functions", 1, u32::MAX.into()).unwrap_or(self.module_functions);
        self.load_timeout = limit(reader, section, "load_timeout").unwrap_or(self.load_timeout);
        if let Some(kv) = reader.section(section.field("kv"), &["key", "value", "total"]) {
            for (name, figure) in [("key", &mut self.kv.key), ("value", &mut self.kv.value), ("total", &mut self.kv.total)] {
                *figure = size(reader, &kv, name).unwrap_or(*figure);
            }
        }
        if let Some(rates) = reader.section(section.field("rates"), &["log", "event", "output"]) {
            for (name, figure) in [("log", &mut self.rates.log), ("event", &mut self.rates.event), ("output", &mut self.rates.output)] {
                *figure = count(reader, &rates, name, 0, u32::MAX.into()).map_or(*figure, |rate| rate as u32);
            }
        }
        self.tcp = reader.bool(section.field("tcp")).unwrap_or(self.tcp);
        self.require_digest = reader.bool(section.field("require_digest")).unwrap_or(self.require_digest);
    }
}

fn root(reader: &mut Reader, item: Field<'_>) -> Option<Root> {
    let section = reader.section(Some(item), &["root", "mode"])?;
    let root = reader.scalar(section.field("root"), "a folder", |scalar| {
        if scalar.text.starts_with('/') && !scalar.text.contains('\0') {
            Ok(PathBuf::from(&scalar.text))
        } else {
            Err("an absolute path".to_owned())
        }
    });
    if section.field("root").is_none() {
        reader.missing(&section, "root", "missing root", "the absolute path of a folder");
    }
    let writable = reader.choice(section.field("mode"), "invalid value", &[("read", false), ("readwrite", true)]);
    Some(Root { root: root?, writable: writable.unwrap_or(false) })
}

fn size(reader: &mut Reader, section: &Section<'_>, name: &str) -> Option<u64> {
    reader.measure(section.field(name), units::size).map(|(_, bytes)| bytes)
}

fn limit(reader: &mut Reader, section: &Section<'_>, name: &str) -> Option<Duration> {
    reader.measure(section.field(name), units::limit).map(|(_, limit)| limit)
}

fn count(reader: &mut Reader, section: &Section<'_>, name: &str, min: u64, max: u64) -> Option<u64> {
    let expected = format!("a whole number from {min} to {max}");
    reader.scalar(section.field(name), &expected, |scalar| {
        let number = scalar.to_int().filter(|_| scalar.plain).and_then(|n| u64::try_from(n).ok());
        number.filter(|n| (min..=max).contains(n)).ok_or_else(|| expected.clone())
    })
}
