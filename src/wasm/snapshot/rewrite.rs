//! A module taken apart, and put together again with the state that an instance of it has come to.
//!
//! Memories and mutable globals of numbers can be written into a module. Tables and dropped segments cannot: a module that
//! has an instruction to change one is refused, whether it runs or not.

use std::ops::Range;

use wasm_encoder::{ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection, GlobalSection, GlobalType, Ieee32, Ieee64};
use wasm_encoder::{MemorySection, MemoryType, Module, RawSection, SectionId, ValType as Type};
use wasmparser::{DataKind, ExternalKind, Operator, Parser, Payload, TypeRef, ValType};

/// What a memory is looked through by: a page of nothing but zeros is left out.
pub(super) const PAGE: usize = 4096;

/// A module in its parts.
pub(super) struct Parts<'a> {
    bytes: &'a [u8],
    /// Number and content of each section, in their order.
    sections: Vec<(u8, Range<usize>)>,
    exports: Vec<(&'a str, ExternalKind, u32)>,
    memories: Vec<wasmparser::MemoryType>,
    /// Where each global of the module stands, and its type if it can change.
    globals: Vec<(Range<usize>, Option<Type>)>,
    segments: Vec<(Range<usize>, bool)>,
}

/// What an instance has come to, in the module's order.
pub(super) struct Reached {
    pub(super) memories: Vec<Vec<u8>>,
    /// Of the globals that can change.
    pub(super) globals: Vec<wasmtime::Val>,
}

impl<'a> Parts<'a> {
    /// Takes a module apart. The error is what about it cannot be kept.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, String> {
        let mut parts =
            Parts { bytes, sections: Vec::new(), exports: Vec::new(), memories: Vec::new(), globals: Vec::new(), segments: Vec::new() };
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|e| e.to_string())?;
            if let Some((id, range)) = payload.as_section() {
                parts.sections.push((id, range));
            }
            parts.add(payload).map_err(|e| e.message().to_owned())??;
        }
        Ok(parts)
    }

    fn add(&mut self, payload: Payload<'a>) -> wasmparser::Result<Result<(), String>> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import?.ty {
                        TypeRef::Func(_) => {}
                        _ => return Ok(Err("it imports something else than functions".to_owned())),
                    }
                }
            }
            Payload::MemorySection(memories) => self.memories = memories.into_iter().collect::<wasmparser::Result<_>>()?,
            Payload::GlobalSection(globals) => {
                let end = globals.range().end;
                let found = globals.into_iter_with_offsets().collect::<wasmparser::Result<Vec<_>>>()?;
                let starts = found.iter().map(|(at, _)| *at).chain([end]).collect::<Vec<_>>();
                for ((at, global), next) in found.iter().zip(starts.iter().skip(1)) {
                    let changing = match (global.ty.mutable, number(global.ty.content_type)) {
                        (false, _) => None,
                        (true, Some(ty)) => Some(ty),
                        (true, None) => return Ok(Err("a global of it holds a reference and can change".to_owned())),
                    };
                    self.globals.push((*at..*next, changing));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    self.exports.push((export.name, export.kind, export.index));
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    let segment = segment?;
                    self.segments.push((segment.range, matches!(segment.kind, DataKind::Passive)));
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader()? {
                    if let Some(name) = unkept(&operator?) {
                        return Ok(Err(format!("it has the instruction {name}, whose effect cannot be kept")));
                    }
                }
            }
            _ => {}
        }
        Ok(Ok(()))
    }

    /// The names under which [`Parts::opened`] exports its memories, then its changing globals.
    pub(super) fn names(&self) -> (Vec<String>, Vec<String>) {
        let memories = (0..self.memories.len()).map(|n| format!("flowplug:memory:{n}")).collect();
        (memories, self.changing().map(|n| format!("flowplug:global:{n}")).collect())
    }

    /// The module with everything exported that can change.
    pub(super) fn opened(&self) -> Vec<u8> {
        let (memories, globals) = self.names();
        let mut exports = ExportSection::new();
        for (name, kind, index) in self.exported() {
            exports.export(name, kind, index);
        }
        for (name, index) in memories.iter().zip(0..) {
            exports.export(name, ExportKind::Memory, index);
        }
        for (name, index) in globals.iter().zip(self.changing()) {
            exports.export(name, ExportKind::Global, index);
        }
        let mut module = Module::new();
        for (id, range) in &self.sections {
            if *id == u8::from(SectionId::Export) {
                module.section(&exports)
            } else {
                module.section(&self.raw(*id, range))
            };
        }
        module.finish()
    }

    /// The module as it is when its instance has come so far: with that state, and nothing to run before it is called.
    pub(super) fn rewritten(&self, reached: &Reached) -> Vec<u8> {
        let mut module = Module::new();
        let counted = self.sections.iter().any(|(id, _)| *id == u8::from(SectionId::DataCount));
        let data = self.data(reached, counted);
        for (id, range) in &self.sections {
            match *id {
                id if id == u8::from(SectionId::Memory) => drop(module.section(&self.memory_section(reached))),
                id if id == u8::from(SectionId::Global) => drop(module.section(&self.global_section(reached))),
                id if id == u8::from(SectionId::Export) => {
                    let mut exports = ExportSection::new();
                    for (name, kind, index) in self.exported().filter(|(name, ..)| *name != "_initialize") {
                        exports.export(name, kind, index);
                    }
                    module.section(&exports);
                }
                id if id == u8::from(SectionId::DataCount) => drop(module.section(&DataCountSection { count: data.len() })),
                // They have run, and what they left is in `data`.
                id if id == u8::from(SectionId::Start) || id == u8::from(SectionId::Data) => {}
                id => drop(module.section(&self.raw(id, range))),
            }
            if *id == u8::from(SectionId::Code) && (counted || !data.is_empty()) {
                module.section(&data);
            }
        }
        module.finish()
    }

    fn memory_section(&self, reached: &Reached) -> MemorySection {
        let mut section = MemorySection::new();
        for (memory, content) in self.memories.iter().zip(&reached.memories) {
            section.memory(MemoryType {
                minimum: (content.len() >> 16) as u64,
                maximum: memory.maximum,
                memory64: memory.memory64,
                shared: memory.shared,
                page_size_log2: memory.page_size_log2,
            });
        }
        section
    }

    fn global_section(&self, reached: &Reached) -> GlobalSection {
        let mut section = GlobalSection::new();
        let mut values = reached.globals.iter();
        for (range, changing) in &self.globals {
            match changing.zip(changing.and_then(|_| values.next())) {
                Some((val_type, value)) => section.global(GlobalType { val_type, mutable: true, shared: false }, &constant(value)),
                None => section.raw(self.bytes.get(range.clone()).unwrap_or_default()),
            };
        }
        section
    }

    /// What the memories hold. Before it the module's own segments, where an instruction may name one by its number: those
    /// that were copied into a memory are empty after that. Elsewhere they would only cost each instance time.
    fn data(&self, reached: &Reached, named: bool) -> DataSection {
        let mut section = DataSection::new();
        for (range, passive) in self.segments.iter().filter(|_| named) {
            if *passive {
                section.raw(self.bytes.get(range.clone()).unwrap_or_default())
            } else {
                section.passive([])
            };
        }
        for (content, memory) in reached.memories.iter().zip(0..) {
            for (offset, bytes) in filled(content) {
                section.active(memory, &ConstExpr::i32_const((offset as u32).cast_signed()), bytes.iter().copied());
            }
        }
        section
    }

    fn exported(&self) -> impl Iterator<Item = (&'a str, ExportKind, u32)> {
        let kind = |kind| match kind {
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            ExternalKind::Tag => ExportKind::Tag,
            ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
        };
        self.exports.iter().map(move |(name, of, index)| (*name, kind(*of), *index))
    }

    /// The indices of the globals that can change.
    fn changing(&self) -> impl Iterator<Item = u32> {
        self.globals.iter().zip(0..).filter(|((_, changing), _)| changing.is_some()).map(|(_, index)| index)
    }

    fn raw(&self, id: u8, range: &Range<usize>) -> RawSection<'a> {
        RawSection { id, data: self.bytes.get(range.clone()).unwrap_or_default() }
    }
}

/// The runs of pages of a memory that hold anything, and where they begin.
fn filled(memory: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (page, number) in memory.chunks(PAGE).zip(0..).filter(|(page, _)| page.iter().any(|byte| *byte != 0)) {
        let at = number * PAGE;
        match runs.last_mut().filter(|run| run.end == at) {
            Some(run) => run.end += page.len(),
            None => runs.push(at..at + page.len()),
        }
    }
    runs.into_iter().filter_map(|run| Some((run.start, memory.get(run)?)))
}

fn number(ty: ValType) -> Option<Type> {
    match ty {
        ValType::I32 => Some(Type::I32),
        ValType::I64 => Some(Type::I64),
        ValType::F32 => Some(Type::F32),
        ValType::F64 => Some(Type::F64),
        ValType::V128 => Some(Type::V128),
        ValType::Ref(_) => None,
    }
}

fn constant(value: &wasmtime::Val) -> ConstExpr {
    match value {
        wasmtime::Val::I64(value) => ConstExpr::i64_const(*value),
        wasmtime::Val::F32(bits) => ConstExpr::f32_const(Ieee32::new(*bits)),
        wasmtime::Val::F64(bits) => ConstExpr::f64_const(Ieee64::new(*bits)),
        wasmtime::Val::V128(value) => ConstExpr::v128_const(value.as_u128().cast_signed()),
        other => ConstExpr::i32_const(other.i32().unwrap_or_default()),
    }
}

/// The name of an instruction that changes what cannot be written into a module.
fn unkept(operator: &Operator<'_>) -> Option<&'static str> {
    Some(match operator {
        Operator::TableSet { .. } => "table.set",
        Operator::TableGrow { .. } => "table.grow",
        Operator::TableFill { .. } => "table.fill",
        Operator::TableCopy { .. } => "table.copy",
        Operator::TableInit { .. } => "table.init",
        Operator::ElemDrop { .. } => "elem.drop",
        Operator::DataDrop { .. } => "data.drop",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_hold_something_are_kept() {
        let mut memory = vec![0; 10 * PAGE + 7];
        for at in [PAGE, 2 * PAGE + 5, 7 * PAGE, 10 * PAGE + 6] {
            memory[at] = 1;
        }
        let found: Vec<(usize, usize)> = filled(&memory).map(|(at, bytes)| (at / PAGE, bytes.len())).collect();
        assert_eq!(found, [(1, 2 * PAGE), (7, PAGE), (10, 7)]);
        assert_eq!(filled(&[0; 3]).count(), 0);
    }

    #[test]
    fn segments_that_no_instruction_names_are_not_kept() {
        let segments = |body: &str| {
            let wat = format!("(module (memory 1) (data (i32.const 0) \"a\") (data $p \"b\") (func {body}))");
            let bytes = wat::parse_str(wat).unwrap();
            let reached = Reached { memories: vec![[vec![b'a'], vec![0; 65535]].concat()], globals: Vec::new() };
            let rewritten = Parts::of(&bytes).unwrap().rewritten(&reached);
            Parts::of(&rewritten).unwrap().segments.iter().map(|(_, passive)| *passive).collect::<Vec<_>>()
        };
        assert_eq!(segments(""), [false]);
        assert_eq!(segments("(memory.init $p (i32.const 0) (i32.const 0) (i32.const 1))"), [true, true, false]);
    }

    #[test]
    fn what_cannot_be_written_into_a_module_is_named() {
        let refused = |wat: &str| Parts::of(&wat::parse_str(wat).unwrap()).err().unwrap();
        for (body, name) in [
            ("(table.set (i32.const 0) (ref.null func))", "table.set"),
            ("(drop (table.grow (ref.null func) (i32.const 1)))", "table.grow"),
            ("(table.fill (i32.const 0) (ref.null func) (i32.const 1))", "table.fill"),
            ("(table.copy (i32.const 0) (i32.const 1) (i32.const 1))", "table.copy"),
            ("(table.init $e (i32.const 0) (i32.const 0) (i32.const 1))", "table.init"),
            ("(elem.drop $e)", "elem.drop"),
            ("(data.drop $d)", "data.drop"),
        ] {
            let wat = format!("(module (memory 1) (table 2 funcref) (elem $e func 0) (data $d \"x\") (func {body}))");
            assert!(refused(&wat).contains(name), "{name}: {}", refused(&wat));
        }
        assert!(refused("(module (global (mut funcref) (ref.null func)))").contains("reference"));
        assert!(refused("(module (import \"a\" \"b\" (global i32)))").contains("imports"));
        assert!(Parts::of(b"\0asm\x01\0\0\0\x03\x05\x01").is_err());
    }
}
