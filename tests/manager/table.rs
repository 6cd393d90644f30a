//! The table of failures in docs/failures.md is true of the tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn each_row_of_the_table_of_failures_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/failures.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what happens")).collect();
    assert!(rows.len() > 20, "the rows were not found");
    let mut named = BTreeSet::new();
    for row in &rows {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("not file::test: {row}"));
            let source = fs::read_to_string(root.join("tests").join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(
                [format!("fn {name}("), format!("static void {name}(")].iter().any(|found| source.contains(found)),
                "no such test: {test}"
            );
            named.insert(name.to_owned());
        }
    }
    // And each failure that is tested has its row.
    let failures = fs::read_to_string(root.join("tests/manager/failures.rs")).unwrap();
    for test in failures.split("#[test]\nfn ").skip(1).map(|rest| rest.split('(').next().unwrap()) {
        assert!(named.contains(test), "docs/failures.md has no row for {test}");
    }
}
