//! Role bindings. Roles have nothing to show but their name and the time of creation.

use serde_json::Value;

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::Object;

const COLUMNS: &[Column<'_>] = &[
    Column::NAME,
    Column::text("Role"),
    Column::AGE,
    Column::wide("Users"),
    Column::wide("Groups"),
    Column::wide("ServiceAccounts"),
];

pub(super) const ROLE_BINDING: Printer = Printer::new(COLUMNS, cells);

pub(super) const CLUSTER_ROLE_BINDING: Printer = Printer::new(COLUMNS, cells);

fn cells(binding: Object<'_>) -> Vec<Value> {
    let role = format!("{}/{}", binding.text("/roleRef/kind"), binding.text("/roleRef/name"));
    vec![
        binding.name(),
        role.into(),
        binding.age(),
        subjects(binding, "User", |subject| subject.text("/name").to_owned()),
        subjects(binding, "Group", |subject| subject.text("/name").to_owned()),
        subjects(binding, "ServiceAccount", |subject| {
            format!("{}/{}", subject.text("/namespace"), subject.text("/name"))
        }),
    ]
}

fn subjects(binding: Object<'_>, kind: &str, show: impl Fn(Object<'_>) -> String) -> Value {
    let names: Vec<String> =
        binding.list("/subjects").filter(|subject| subject.text("/kind") == kind).map(show).collect();
    names.join(", ").into()
}
