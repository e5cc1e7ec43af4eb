//! Columns of custom kinds: `additionalPrinterColumns` of a CustomResourceDefinition, `apiextensions.k8s.io/v1`.

use jiff::Timestamp;
use serde_json::Value;

use super::column::{Column, ColumnType};
use super::jsonpath::JsonPath;
use crate::machinery::age;

/// Where the cells after the name come from.
#[derive(Clone, Debug)]
pub(super) struct CustomColumns {
    /// `None` for a path that cannot be read.
    sources: Vec<(ColumnType, Option<JsonPath>)>,
}

impl CustomColumns {
    /// Reads `additionalPrinterColumns`; the age is the only column if there are none.
    pub(super) fn read(printer_columns: &[Value]) -> (Vec<Value>, Self) {
        let mut head = vec![Column::NAME.definition()];
        if printer_columns.is_empty() {
            head.push(Column { column_type: ColumnType::Date, ..Column::AGE }.definition());
            let created = JsonPath::parse(".metadata.creationTimestamp").ok();
            return (head, Self { sources: vec![(ColumnType::Date, created)] });
        }
        let mut sources = Vec::with_capacity(printer_columns.len());
        for entry in printer_columns {
            let column = column(entry);
            let path = entry["jsonPath"].as_str().and_then(|path| JsonPath::parse(path).ok());
            sources.push((column.column_type, path));
            head.push(column.definition());
        }
        (head, Self { sources })
    }

    pub(super) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let mut cells = vec![Value::from(name)];
        cells.extend(self.sources.iter().map(|(column_type, path)| {
            let mut selected = path.as_ref().map(|path| path.select(object)).unwrap_or_default();
            selected.retain(|value| !value.is_null());
            cell(*column_type, &selected, now)
        }));
        cells
    }
}

fn column(entry: &Value) -> Column<'_> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default();
    Column {
        name: text("name"),
        column_type: ColumnType::parse(entry["type"].as_str().unwrap_or_default()),
        format: text("format"),
        description: text("description"),
        priority: entry["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0),
    }
}

/// The cell of what a path selected: of all values in a column of text, of the first otherwise. A value of another type
/// than the column's leaves the cell empty.
fn cell(column_type: ColumnType, selected: &[&Value], now: Timestamp) -> Value {
    let Some(first) = selected.first() else { return Value::Null };
    match column_type {
        ColumnType::Text => {
            let texts: Vec<String> = selected.iter().map(|value| plain(value)).collect();
            texts.join(" ").into()
        }
        ColumnType::Integer => integer(first),
        ColumnType::Number if first.is_number() => (*first).clone(),
        ColumnType::Boolean if first.is_boolean() => (*first).clone(),
        ColumnType::Number | ColumnType::Boolean => Value::Null,
        ColumnType::Date => match first {
            Value::String(text) if text.parse::<Timestamp>().is_err() => "<invalid>".into(),
            Value::String(text) => age::since(Some(text), now).into(),
            _ => Value::Null,
        },
    }
}

/// A value as text: strings without quotes, the rest as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whole numbers as they are, others cut off.
fn integer(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => value.clone(),
        #[expect(clippy::cast_possible_truncation, reason = "a float beyond the range saturates")]
        Value::Number(number) => number.as_f64().map_or(Value::Null, |number| (number.trunc() as i64).into()),
        _ => Value::Null,
    }
}
