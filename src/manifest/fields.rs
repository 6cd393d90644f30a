//! The fields of a manifest, section by section: each is read into its type, and as it was written into the JSON that
//! [`Manifest::to_json`](super::Manifest::to_json) gives.

use serde_json::{Value, json};

use crate::manifest::node::{Body, Node};
use crate::manifest::problem::{Code, Problem};
use crate::manifest::reader::{Field, Reader, Section};
use crate::manifest::schema::Schema;
use crate::manifest::sections::{grpc, wasm};
use crate::manifest::{AbilityDecl, GrpcConfig, ProviderDecl, Provides, RuntimeKind, WasmConfig};

const KNOWN: [&str; 9] = ["name", "version", "description", "author", "runtime", "provides", "grpc", "wasm", "config_schema"];

/// Everything a document says. Where something is wrong with it, the reader has problems and this is not to be used.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) author: String,
    pub(crate) runtime: RuntimeKind,
    pub(crate) provides: Provides,
    pub(crate) grpc: Option<GrpcConfig>,
    pub(crate) wasm: Option<WasmConfig>,
    pub(crate) schema: Option<Schema>,
    pub(crate) json: Value,
}

/// Reads a document; none if it is no mapping at all.
pub(crate) fn read(reader: &mut Reader, root: &Node) -> Option<Document> {
    let empty = Node { line: 1, column: 1, body: Body::Map(Vec::new()) };
    let node = if root.is_absent() { &empty } else { root };
    let Some(top) = reader.section(Some(Field { path: String::new(), node }), &KNOWN) else {
        for problem in &mut reader.problems {
            problem.what = "the document is not a mapping".to_owned();
        }
        return None;
    };
    let mut text = |name: &str| reader.text(top.field(name)).unwrap_or_default();
    let (name, version, description, author) = (text("name"), text("version"), text("description"), text("author"));
    if top.field("name").is_none() {
        reader.missing(&top, "name", "missing name", "a label for people");
    }
    let runtime = runtime(reader, &top);
    let provides = provides(reader, top.field("provides"));
    let (grpc, grpc_json) = grpc(reader, top.field("grpc"), runtime == Some(RuntimeKind::Grpc)).unzip();
    let (wasm, wasm_json) = wasm(reader, top.field("wasm"), runtime == Some(RuntimeKind::Wasm)).unzip();
    match runtime {
        Some(RuntimeKind::Grpc) if top.field("grpc").is_none() => {
            reader.missing(&top, "grpc", "grpc config required for grpc runtime", "a mapping with `binary`");
        }
        Some(RuntimeKind::Wasm) if top.field("wasm").is_none() => {
            reader.missing(&top, "wasm", "wasm config required for wasm runtime", "a mapping with `module`");
        }
        _ => {}
    }
    let schema = top.field("config_schema").and_then(|field| schema(reader, &field));
    let json = json!({
        "name": name, "version": version, "description": description, "author": author,
        "runtime": runtime.map_or("", RuntimeKind::name),
        "provides": provides_json(&provides),
        "grpc": grpc_json, "wasm": wasm_json,
        "config_schema": schema.as_ref().map(Schema::value),
    });
    let runtime = runtime.unwrap_or(RuntimeKind::Wasm);
    Some(Document { name, version, description, author, runtime, provides, grpc, wasm, schema, json })
}

fn runtime(reader: &mut Reader, top: &Section<'_>) -> Option<RuntimeKind> {
    let field = top.field("runtime");
    if field.is_none() {
        reader.missing(top, "runtime", "invalid runtime", "grpc or wasm");
    }
    reader.choice(field, "invalid runtime", &[("grpc", RuntimeKind::Grpc), ("wasm", RuntimeKind::Wasm)])
}

fn provides(reader: &mut Reader, field: Option<Field<'_>>) -> Provides {
    let Some(section) = reader.section(field, &["module", "abilities", "provider"]) else { return Provides::default() };
    let module = reader.bool(section.field("module")).unwrap_or(false);
    let mut abilities = Vec::new();
    for item in reader.list(section.field("abilities")) {
        let Some(ability) = reader.section(Some(item), &["capability", "operations"]) else { continue };
        let capability = reader.text(ability.field("capability")).unwrap_or_default();
        abilities.push(AbilityDecl { capability, operations: reader.texts(ability.field("operations")) });
    }
    let provider = reader.section(section.field("provider"), &["name", "oauth"]).map(|provider| ProviderDecl {
        name: reader.text(provider.field("name")).unwrap_or_default(),
        oauth: reader.bool(provider.field("oauth")).unwrap_or(false),
    });
    Provides { module, abilities, provider }
}

/// `provides` as JSON, every field there.
pub(crate) fn provides_json(provides: &Provides) -> Value {
    let abilities = provides.abilities.iter().map(|a| json!({"capability": a.capability, "operations": a.operations}));
    let provider = provides.provider.as_ref().map(|p| json!({"name": p.name, "oauth": p.oauth}));
    json!({"module": provides.module, "abilities": abilities.collect::<Vec<_>>(), "provider": provider})
}

fn schema(reader: &mut Reader, field: &Field<'_>) -> Option<Schema> {
    let value = match &field.node.body {
        // A JSON text, as Go marshals a raw message into YAML.
        Body::Scalar(scalar) if !scalar.plain => {
            serde_json::from_str::<Value>(&scalar.text).map_err(|e| format!("the text is not JSON: {e}"))
        }
        _ => field.node.to_json().map_err(|expected| format!("it contains something else than {expected}")),
    };
    match value.and_then(Schema::compile) {
        Ok(schema) => Some(schema),
        Err(why) => {
            let what = format!("config_schema is invalid: {why}");
            reader.problem(Problem::new(Code::InvalidValue, &field.path, field.at(), what, ""));
            None
        }
    }
}
