//! The default of `Log`: a line on standard error.

use std::io::Write;

use crate::host::LogRecord;

/// Writes the record as one line, `level plugin: message key=value …`; a closed standard error is no error.
pub fn to_stderr(record: &LogRecord<'_>) {
    let mut line = String::with_capacity(64 + record.message.len());
    line.push_str(record.level.name());
    line.push(' ');
    line.push_str(if record.plugin.is_empty() { "flowplug" } else { record.plugin });
    line.push_str(": ");
    push_on_one_line(&mut line, record.message);
    for (name, value) in record.fields {
        line.push(' ');
        push_on_one_line(&mut line, name);
        line.push('=');
        push_on_one_line(&mut line, value);
    }
    line.push('\n');
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

fn push_on_one_line(line: &mut String, text: &str) {
    for c in text.chars() {
        line.push(if c == '\n' { ' ' } else { c });
    }
}
