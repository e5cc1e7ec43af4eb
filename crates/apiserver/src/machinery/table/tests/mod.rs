//! Tables as kubectl prints them.

mod form;
mod kinds;
mod paths;
mod pods;

use super::*;

/// The moment at which all tables of the tests are made.
fn now() -> Timestamp {
    "2026-01-10T12:00:00Z".parse().unwrap()
}

/// The rows as `kubectl get -o wide` prints them; columns that are not always shown stand in parentheses.
fn print(columns: &Columns, objects: &[Value]) -> String {
    let definitions = columns.definitions();
    let head = definitions.as_array().unwrap().iter().map(|column| {
        let name = column["name"].as_str().unwrap().to_uppercase();
        if column["priority"] == 0 { name } else { format!("({name})") }
    });
    let mut lines: Vec<Vec<String>> = vec![head.collect()];
    for object in objects {
        let cells = columns.cells(object, now());
        lines.push(
            cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect(),
        );
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let show = |line: &Vec<String>| {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    lines.iter().map(show).collect::<Vec<_>>().join("\n")
}

fn print_builtin(group: &str, kind: &str, objects: &[Value]) -> String {
    print(&Columns::of_builtin(group, kind), objects)
}

/// Metadata of an object that was made an hour before [`now`], with more fields.
fn metadata(name: &str, more: Value) -> Value {
    let mut metadata = json!({"name": name, "creationTimestamp": "2026-01-10T11:00:00Z"});
    if let (Value::Object(metadata), Value::Object(more)) = (&mut metadata, more) {
        metadata.extend(more);
    }
    metadata
}

/// An object that was made an hour before [`now`].
fn object(name: &str, rest: Value) -> Value {
    let mut object = json!({"metadata": metadata(name, json!({}))});
    if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
        object.extend(rest);
    }
    object
}
