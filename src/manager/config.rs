//! What a manager is made from: flowbot's `plugins:` section as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::error::Result;
use crate::manifest::document;
use crate::manifest::node::{Body, Node};
use crate::manifest::reader::{Field, Reader, Section};
use crate::manifest::units;
use crate::source::{Repository, SourceConfig};

/// How long calls in flight may go on, where nothing is said.
const DRAIN: Duration = Duration::from_secs(30);
/// How many plugins there may be, where nothing is said.
const PLUGINS_MAX: u64 = 50;

const KNOWN: [&str; 6] = ["enabled", "sources", "config", "hot_reload", "drain_timeout", "max_plugins"];

/// The section, understood.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether there are to be plugins at all; as in flowbot, only if it says so.
    pub enabled: bool,
    /// Where they come from.
    pub sources: Vec<SourceConfig>,
    /// The config of each, by identity, as it was written: what it takes from the environment stands there as `${env:NAME}`.
    pub configs: BTreeMap<String, Value>,
    /// Whether changes of the sources are followed.
    pub hot_reload: bool,
    /// How long calls in flight may go on when their plugin is unloaded or everything stops.
    pub drain_timeout: Duration,
    /// How many plugins there may be; none: no bound.
    pub max_plugins: Option<usize>,
}

impl Config {
    /// Reads the section, YAML or JSON, or a document that has it under `plugins`. Returns what it does not know beside it,
    /// a sentence each: flowbot passes over it, too.
    ///
    /// Errors: `invalid_config`, with a line for every problem.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>)> {
        document::fields(text.as_bytes(), |reader, root| {
            let empty = Node { line: 1, column: 1, body: Body::Map(Vec::new()) };
            let root = if root.is_absent() { &empty } else { root };
            let whole = reader.open(Some(Field { path: String::new(), node: root }))?;
            let inside = whole.fields().find(|(name, _)| *name == "plugins").map(|(_, field)| field);
            let section = inside.filter(|field| !field.node.is_absent()).unwrap_or(Field { path: String::new(), node: root });
            reader.section(Some(section), &KNOWN).map(|section| Config::read(reader, &section))
        })
    }

    fn read(reader: &mut Reader, section: &Section<'_>) -> Self {
        let mut sources = Vec::new();
        for item in reader.list(section.field("sources")) {
            sources.extend(source(reader, item));
        }
        let mut configs = BTreeMap::new();
        if let Some(all) = reader.open(section.field("config")) {
            for (identity, field) in all.fields() {
                match field.node.to_json() {
                    Ok(value) => drop(configs.insert(identity.to_owned(), value)),
                    Err(expected) => reader.invalid(&field, "a value has no meaning in JSON", expected),
                }
            }
        }
        let max = reader.number(section.field("max_plugins"), u32::MAX.into()).unwrap_or(PLUGINS_MAX);
        Config {
            enabled: reader.bool(section.field("enabled")).unwrap_or(false),
            sources,
            configs,
            hot_reload: reader.bool(section.field("hot_reload")).unwrap_or(true),
            drain_timeout: duration(reader, section, "drain_timeout").unwrap_or(DRAIN),
            max_plugins: (max > 0).then_some(max as usize),
        }
    }
}

#[derive(Clone, Copy)]
enum Type {
    Local,
    Oci,
    Git,
}

fn source(reader: &mut Reader, item: Field<'_>) -> Option<SourceConfig> {
    let section = reader.section(Some(item), &["type", "path", "registry", "repos", "poll_interval"])?;
    let poll_interval = duration(reader, &section, "poll_interval");
    let repos: Vec<Repository> = reader.list(section.field("repos")).into_iter().filter_map(|item| repository(reader, item)).collect();
    let needed = |reader: &mut Reader, name: &str, expected: &str| {
        if section.field(name).is_none() {
            reader.missing(&section, name, &format!("missing {name}"), expected);
        }
        section.field(name)
    };
    let kind = needed(reader, "type", "local, oci or git");
    match reader.choice(kind, "invalid type", &[("local", Type::Local), ("oci", Type::Oci), ("git", Type::Git)])? {
        Type::Local => {
            let path = needed(reader, "path", "a folder of plugin folders");
            Some(SourceConfig::Local { path: PathBuf::from(reader.text(path)?), poll_interval })
        }
        Type::Oci => {
            let registry = needed(reader, "registry", "the host of a registry");
            Some(SourceConfig::Oci { registry: reader.text(registry)?, repos, poll_interval })
        }
        Type::Git => {
            needed(reader, "repos", "a list of repositories, each with its url")?;
            Some(SourceConfig::Git { repos, poll_interval })
        }
    }
}

fn repository(reader: &mut Reader, item: Field<'_>) -> Option<Repository> {
    let section = reader.section(Some(item), &["url", "ref", "poll_interval"])?;
    if section.field("url").is_none() {
        reader.missing(&section, "url", "missing url", "where the repository is");
    }
    let url = reader.text(section.field("url"))?;
    let reference = reader.text(section.field("ref")).unwrap_or_default();
    Some(Repository { url, reference, poll_interval: duration(reader, &section, "poll_interval") })
}

/// A duration as text, or as Go marshals one: a number of nanoseconds. None where it is absent, or zero, which is what Go
/// marshals where nothing was set.
fn duration(reader: &mut Reader, section: &Section<'_>, name: &str) -> Option<Duration> {
    let expected = "a duration such as 300ms or 30s, or a number of nanoseconds";
    let nanos = reader.scalar(section.field(name), expected, |scalar| {
        let number = if scalar.plain { scalar.to_int() } else { None };
        number.or_else(|| units::go_duration(&scalar.text)).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| expected.to_owned())
    });
    nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_section_is_flowbots_in_yaml_and_in_json() {
        let yaml = "\
enabled: true
sources:
  - type: local
    path: ./plugins
  - type: git
    repos:
      - url: https://example.com/org/repo.git
        ref: v1
        poll_interval: 60000000000
    poll_interval: 5m
  - {type: oci, registry: registry.example.com, repos: [{url: org/plugin, ref: latest}]}
config:
  bookmark: {endpoint: \"https://example.com\", token: \"${env:TOKEN}\", n: 3}
hot_reload: false
drain_timeout: 1m30s
max_plugins: 7
";
        let (config, warnings) = Config::parse(yaml).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert!(config.enabled && !config.hot_reload);
        assert_eq!((config.drain_timeout, config.max_plugins), (Duration::from_secs(90), Some(7)));
        assert_eq!(config.configs["bookmark"]["token"], "${env:TOKEN}");
        let minute = Some(Duration::from_secs(60));
        let git = Repository { url: "https://example.com/org/repo.git".into(), reference: "v1".into(), poll_interval: minute };
        let oci = Repository { url: "org/plugin".into(), reference: "latest".into(), poll_interval: None };
        assert_eq!(
            config.sources,
            [
                SourceConfig::Local { path: "./plugins".into(), poll_interval: None },
                SourceConfig::Git { repos: vec![git], poll_interval: Some(Duration::from_secs(300)) },
                SourceConfig::Oci { registry: "registry.example.com".into(), repos: vec![oci], poll_interval: None },
            ]
        );
        let json = r#"{"plugins": {"enabled": true, "drain_timeout": 2000000000, "max_plugins": 0, "sources": null}, "http": {"port": 1}}"#;
        let (config, _) = Config::parse(json).unwrap();
        assert_eq!((config.enabled, config.drain_timeout, config.max_plugins), (true, Duration::from_secs(2), None));
    }

    #[test]
    fn the_example_of_the_documentation_is_understood() {
        let docs = include_str!("../../docs/manager.md");
        let example = docs.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let (config, warnings) = Config::parse(example).unwrap();
        assert_eq!((config.enabled, config.sources.len(), warnings.len()), (true, 1, 0));
        assert_eq!(config.configs["bookmarks"]["token"], "${env:BOOKMARKS_TOKEN}");
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        for text in ["", "{}", "plugins:", "drain_timeout: 0\nhot_reload:\nsources: []"] {
            let (config, _) = Config::parse(text).unwrap();
            assert!(!config.enabled && config.hot_reload && config.sources.is_empty(), "{text}");
            assert_eq!((config.drain_timeout, config.max_plugins), (DRAIN, Some(50)), "{text}");
        }
    }

    #[test]
    fn what_nobody_knows_is_told_and_passed_over() {
        let (_, warnings) = Config::parse("enabeld: true\nsources: [{type: local, path: p, pol_interval: 1s}]").unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.contains("line 1") && w.contains("did you mean \"enabled\"?")), "{warnings:?}");
    }

    #[test]
    fn what_is_wrong_names_its_place() {
        for (text, place) in [
            ("[]", "wrong type"),
            ("enabled: maybe", "line 1, column 10: enabled"),
            ("drain_timeout: soon", "drain_timeout"),
            ("drain_timeout: -1s", "drain_timeout"),
            ("drain_timeout: \"30\"", "drain_timeout"),
            ("max_plugins: -1", "max_plugins"),
            ("max_plugins: many", "max_plugins"),
            ("sources: [{path: p}]", "sources[0].type"),
            ("sources: [{type: local}]", "sources[0].path"),
            ("sources: [{type: npm}]", "local or oci or git"),
            ("sources: [{type: git}]", "sources[0].repos"),
            ("sources: [{type: git, repos: [{ref: v1}]}]", "sources[0].repos[0].url"),
            ("sources: [{type: oci}]", "sources[0].registry"),
            ("sources: p", "sources"),
            ("config: []", "config"),
            ("config: {a: .inf}", "config.a"),
            ("enabled: [", "line 1"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert_eq!((error.kind(), error.message().contains(place)), (Kind::InvalidConfig, true), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_in_a_config_is_not_shown() {
        let error = Config::parse("config:\n  a: {token: hunter2}\n  b: hunter2\n  c: {d: .inf}").unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
    }
}
