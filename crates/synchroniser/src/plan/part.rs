//! The stages that install, change and remove an application on one cluster.

use std::collections::BTreeMap;

use super::rank::{Rank, rank};

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Definitions of kinds, before everything else.
    CrdInstall,
    /// Before the main resources.
    PreInstall,
    /// After the main resources.
    PostInstall,
    /// Before the main resources are deleted.
    PreDelete,
    /// After the main resources are gone.
    PostDelete,
}

/// What an object is to its application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// One of its resources.
    Main,
    /// A hook.
    Hook(Hook),
}

/// An object, as far as a planner needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name in the context, unique in the part.
    pub name: String,
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.name`.
    pub object: String,
    /// The namespace it is in, empty if it is in none; absent if it is not known yet whether its kind is in namespaces.
    pub namespace: Option<String>,
    /// What it is to the application.
    pub role: Role,
    /// Digest of its manifest.
    pub digest: [u8; 32],
}

impl Item {
    fn rank(&self) -> Rank {
        rank(&self.api_version, &self.kind)
    }

    /// Whether it is, or may be, the same object at a cluster. Names in a context do not tell: of objects of one name in several namespaces
    /// the first has the short one, whichever that is, and one that has moved to another namespace keeps its own.
    fn is_same(&self, other: &Self) -> bool {
        let alike = self.kind == other.kind && self.object == other.object;
        match (&self.namespace, &other.namespace) {
            (Some(one), Some(another)) => alike && one == another,
            _ => alike || self.name == other.name,
        }
    }

    /// Whether it is the definition of a kind.
    pub fn is_definition(&self) -> bool {
        self.kind == "CustomResourceDefinition" && self.api_version.starts_with("apiextensions.k8s.io/")
    }
}

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is made to be as declared.
    Apply,
    /// It is made if there is none of its name; one that is there is left as it is.
    Provide,
    /// It is deleted.
    Delete,
}

/// What is waited for after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Until {
    /// The cluster has taken it; nothing else.
    Taken,
    /// It can be used by others: a kind is established, a namespace is active.
    Usable,
    /// It has done what it is for: a Job or Pod succeeded, a workload is ready.
    Complete,
    /// It is gone.
    Gone,
}

/// One object in a stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Task {
    /// [`Item::name`].
    pub name: String,
    /// What is done.
    pub action: Action,
    /// What is waited for.
    pub until: Until,
}

/// What is done at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stage {
    /// In the order in which they begin.
    pub tasks: Vec<Task>,
}

impl Stage {
    fn of<'a>(items: impl IntoIterator<Item = &'a Item>, action: Action, until: Until) -> Self {
        let task = |item: &Item| Task { name: item.name.clone(), action, until };
        Self { tasks: items.into_iter().map(task).collect() }
    }
}

/// Stages without the empty ones.
fn full(stages: impl IntoIterator<Item = Stage>) -> Vec<Stage> {
    stages.into_iter().filter(|stage| !stage.tasks.is_empty()).collect()
}

fn of_hook(items: &[Item], hook: Hook) -> impl Iterator<Item = &Item> {
    items.iter().filter(move |item| item.role == Role::Hook(hook))
}

/// Hooks are in the order of their weights, and each may rely on those before it.
fn one_by_one(items: &[Item], hook: Hook) -> impl Iterator<Item = Stage> {
    of_hook(items, hook).map(|item| Stage::of([item], Action::Apply, Until::Complete))
}

/// Main resources by rank, each rank in the order given.
fn ranked<'a>(items: impl IntoIterator<Item = &'a Item>) -> BTreeMap<Rank, Vec<&'a Item>> {
    let mut ranks: BTreeMap<Rank, Vec<&Item>> = BTreeMap::new();
    for item in items {
        ranks.entry(item.rank()).or_default().push(item);
    }
    ranks
}

fn main_resources(items: &[Item]) -> impl Iterator<Item = &Item> {
    items.iter().filter(|item| item.role == Role::Main)
}

fn applied<'a>(items: impl IntoIterator<Item = &'a Item>) -> impl Iterator<Item = Stage> {
    ranked(items).into_iter().map(|(rank, items)| {
        let until = if rank == Rank::Ground { Until::Usable } else { Until::Taken };
        Stage::of(items, Action::Apply, until)
    })
}

/// Installs a part: definitions of kinds, hooks before, resources by rank, hooks after. Hooks go one by one, each until it is complete.
pub fn install(items: &[Item]) -> Vec<Stage> {
    let definitions = Stage::of(of_hook(items, Hook::CrdInstall), Action::Provide, Until::Usable);
    full(
        std::iter::once(definitions)
            .chain(one_by_one(items, Hook::PreInstall))
            .chain(applied(main_resources(items)))
            .chain(one_by_one(items, Hook::PostInstall)),
    )
}

/// Hooks, but for definitions of kinds.
fn left_by_hooks(items: &[Item]) -> impl Iterator<Item = &Item> {
    items.iter().filter(|item| matches!(item.role, Role::Hook(hook) if hook != Hook::CrdInstall))
}

/// Deletes main resources against the order in which they were made, each rank until all of it is gone.
fn deleted<'a>(items: impl IntoIterator<Item = &'a Item>) -> impl Iterator<Item = Stage> {
    ranked(items).into_iter().rev().map(|(_, mut items)| {
        items.reverse();
        Stage::of(items, Action::Delete, Until::Gone)
    })
}

/// Removes a part: hooks before, resources against their order, hooks after, then what hooks have left behind.
///
/// Kinds that a chart brings besides its templates stay, as with Helm: with the definition the cluster would delete every object of that
/// kind, also those of others.
pub fn remove(items: &[Item]) -> Vec<Stage> {
    let hooks: Vec<&Item> = left_by_hooks(items).collect();
    full(
        one_by_one(items, Hook::PreDelete)
            .chain(deleted(main_resources(items)))
            .chain(one_by_one(items, Hook::PostDelete))
            .chain(deleted(hooks)),
    )
}

/// Changes a part that is installed into another: what is new or different is applied. Items whose object is as it should be already, by
/// their digest and as `is_there` says of the old ones, are left alone. Hooks of installation do not run again.
pub fn change(old: &[Item], new: &[Item], is_there: impl Fn(&Item) -> bool) -> Vec<Stage> {
    let known: BTreeMap<(&str, Role), &Item> =
        old.iter().map(|item| ((item.name.as_str(), item.role), item)).collect();
    let differs = |item: &&Item| {
        let same = known.get(&(item.name.as_str(), item.role)).filter(|old| old.digest == item.digest);
        !same.is_some_and(|old| is_there(old))
    };
    let definitions = of_hook(new, Hook::CrdInstall).filter(differs);
    full(
        std::iter::once(Stage::of(definitions, Action::Provide, Until::Usable))
            .chain(applied(main_resources(new).filter(differs))),
    )
}

/// Removes what an old part has and a new one has not, and then what its hooks have left behind: with the old part gone, nobody else would.
/// As in [`remove`], kinds stay.
pub fn prune(old: &[Item], new: &[Item]) -> Vec<Stage> {
    let mut stays: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in new {
        stays.entry(item.object.as_str()).or_default().push(item);
    }
    let gone = |item: &&Item| {
        let alike = stays.get(item.object.as_str()).into_iter().flatten();
        !alike.into_iter().any(|new| new.is_same(item))
    };
    let hooks: Vec<&Item> = left_by_hooks(old).filter(gone).collect();
    full(deleted(main_resources(old).filter(gone)).chain(deleted(hooks)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn item(name: &str, api_version: &str, kind: &str, role: Role) -> Item {
        let (object, namespace) = (name.to_owned(), Some("apps".to_owned()));
        let (name, kind, api_version) = (format!("{name}+{kind}"), kind.into(), api_version.into());
        Item { digest: [0; 32], name, api_version, kind, object, namespace, role }
    }

    fn chart() -> Vec<Item> {
        vec![
            item(
                "widgets",
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                Role::Hook(Hook::CrdInstall),
            ),
            item("migrate", "batch/v1", "Job", Role::Hook(Hook::PreInstall)),
            item("check", "batch/v1", "Job", Role::Hook(Hook::PostInstall)),
            item("backup", "batch/v1", "Job", Role::Hook(Hook::PreDelete)),
            item("farewell", "batch/v1", "Job", Role::Hook(Hook::PostDelete)),
            item("web", "apps/v1", "Deployment", Role::Main),
            item("a", "v1", "ConfigMap", Role::Main),
            item("space", "v1", "Namespace", Role::Main),
            item("b", "v1", "Secret", Role::Main),
            item("one", "example.com/v1", "Widget", Role::Main),
        ]
    }

    fn names(stages: &[Stage]) -> Vec<Vec<String>> {
        let of = |stage: &Stage| stage.tasks.iter().map(|task| task.name.clone()).collect();
        stages.iter().map(of).collect()
    }

    #[test]
    fn an_installation_goes_from_the_ground_up() {
        let stages = install(&chart());
        assert_eq!(
            names(&stages),
            [
                vec!["widgets+CustomResourceDefinition"],
                vec!["migrate+Job"],
                vec!["space+Namespace"],
                vec!["a+ConfigMap", "b+Secret"],
                vec!["web+Deployment"],
                vec!["one+Widget"],
                vec!["check+Job"],
            ]
        );
        let first = &stages[0].tasks[0];
        assert_eq!((first.action, first.until), (Action::Provide, Until::Usable));
        assert_eq!(stages[1].tasks[0].until, Until::Complete);
        assert_eq!(stages[2].tasks[0].until, Until::Usable);
        assert_eq!(stages[4].tasks[0].until, Until::Taken);
    }

    #[test]
    fn a_removal_goes_back_and_leaves_the_kinds() {
        let stages = remove(&chart());
        assert_eq!(
            names(&stages),
            [
                vec!["backup+Job"],
                vec!["one+Widget"],
                vec!["web+Deployment"],
                vec!["b+Secret", "a+ConfigMap"],
                vec!["space+Namespace"],
                vec!["farewell+Job"],
                vec!["farewell+Job", "backup+Job", "check+Job", "migrate+Job"],
            ]
        );
        assert_eq!(stages[0].tasks[0].action, Action::Apply);
        assert!(
            stages[1].tasks.iter().all(|task| (task.action, task.until) == (Action::Delete, Until::Gone))
        );
    }

    #[test]
    fn a_change_is_what_differs() {
        let old = chart();
        let mut new = chart();
        new[6].digest = [1; 32];
        new.remove(8);
        new.push(item("c", "v1", "ConfigMap", Role::Main));
        new[1].digest = [1; 32];
        assert_eq!(names(&change(&old, &new, |_| true)), [vec!["a+ConfigMap", "c+ConfigMap"]]);
        assert_eq!(names(&prune(&old, &new)), [vec!["b+Secret"]]);
        let without_hooks: Vec<Item> = new.iter().filter(|item| item.role == Role::Main).cloned().collect();
        let hooks = vec!["farewell+Job", "backup+Job", "check+Job", "migrate+Job"];
        assert_eq!(names(&prune(&old, &without_hooks)), [vec!["b+Secret"], hooks]);
        let missing = change(&old, &new, |item| item.kind != "Deployment");
        assert_eq!(names(&missing), [vec!["a+ConfigMap", "c+ConfigMap"], vec!["web+Deployment"]]);
    }

    #[test]
    fn what_moves_to_another_namespace_leaves_the_first() {
        let at = |name: &str, namespace: Option<&str>| Item {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            ..item("a", "v1", "ConfigMap", Role::Main)
        };
        let old = [at("a+ConfigMap", Some("x")), at("a+ConfigMap+y@", Some("y"))];
        assert_eq!(names(&prune(&old, &[at("a+ConfigMap", Some("z"))])).concat().len(), 2);
        // The same object, under another name.
        assert_eq!(names(&prune(&old, &[at("a+ConfigMap", Some("y"))])), [["a+ConfigMap"]]);
        // Nobody knows whether they are the same: then nothing goes.
        assert!(prune(&old[..1], &[at("a+ConfigMap", None)]).is_empty());
        assert!(prune(&[at("a+ConfigMap", None)], &[at("a+ConfigMap", Some("y"))]).is_empty());
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let kinds = [
            ("v1", "Namespace"),
            ("v1", "ConfigMap"),
            ("v1", "Service"),
            ("apps/v1", "Deployment"),
            ("example.com/v1", "Widget"),
        ];
        let roles = [
            Role::Main,
            Role::Main,
            Role::Hook(Hook::CrdInstall),
            Role::Hook(Hook::PreInstall),
            Role::Hook(Hook::PostInstall),
            Role::Hook(Hook::PreDelete),
            Role::Hook(Hook::PostDelete),
        ];
        let one = (0..12_u8, 0..kinds.len(), 0..roles.len(), 0..3_u8).prop_map(
            move |(name, kind, role, digest)| {
                let (api_version, kind) = kinds[kind];
                Item { digest: [digest; 32], ..item(&format!("o{name}"), api_version, kind, roles[role]) }
            },
        );
        prop::collection::vec(one, 0..24).prop_map(|items| {
            let mut seen = BTreeSet::new();
            items.into_iter().filter(|item| seen.insert(item.name.clone())).collect()
        })
    }

    proptest! {
        #[test]
        fn everything_is_installed_once_and_removed_once(items in items()) {
            let mut installed: Vec<String> = names(&install(&items)).concat();
            installed.sort();
            let not_at_install = [Role::Hook(Hook::PreDelete), Role::Hook(Hook::PostDelete)];
            let mut wanted: Vec<String> = items
                .iter()
                .filter(|item| !not_at_install.contains(&item.role))
                .map(|item| item.name.clone())
                .collect();
            wanted.sort();
            prop_assert_eq!(installed, wanted);
            let stages = remove(&items);
            let mut removed: Vec<&str> = stages
                .iter()
                .flat_map(|stage| &stage.tasks)
                .filter(|task| task.action == Action::Delete)
                .map(|task| task.name.as_str())
                .collect();
            removed.sort_unstable();
            let mut owned: Vec<&str> = items
                .iter()
                .filter(|item| item.role != Role::Hook(Hook::CrdInstall))
                .map(|item| item.name.as_str())
                .collect();
            owned.sort_unstable();
            prop_assert_eq!(removed, owned);
        }

        #[test]
        fn a_change_and_its_pruning_lead_to_the_new_part(old in items(), new in items()) {
            let mut there: BTreeMap<&str, [u8; 32]> =
                main_resources(&old).map(|item| (item.name.as_str(), item.digest)).collect();
            let digests: BTreeMap<&str, [u8; 32]> =
                new.iter().map(|item| (item.name.as_str(), item.digest)).collect();
            let changes = change(&old, &new, |_| true);
            for task in changes.iter().flat_map(|stage| &stage.tasks) {
                there.insert(&task.name, digests[task.name.as_str()]);
            }
            let pruned = prune(&old, &new);
            for task in pruned.iter().flat_map(|stage| &stage.tasks) {
                there.remove(task.name.as_str());
            }
            for item in main_resources(&new) {
                prop_assert_eq!(there.get(item.name.as_str()), Some(&item.digest));
            }
            prop_assert!(there.keys().all(|name| digests.contains_key(name)));
        }
    }
}
