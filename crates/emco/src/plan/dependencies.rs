//! Which applications wait for which: names that do not exist, and circles.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Refusal;

/// Checks that dependencies name applications of the composite application, and that none waits for itself. `needs`: for each
/// application those that it waits for. Returns the applications in an order in which each comes after those that it waits for.
///
/// # Errors
/// What is wrong, with the whole circle.
pub fn order(needs: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, Refusal> {
    for (app, wanted) in needs {
        if let Some(unknown) = wanted.iter().find(|wanted| !needs.contains_key(*wanted)) {
            return Err(Refusal::missing(format!(
                "app {app} depends on {unknown}, which is no app of this composite application"
            )));
        }
    }
    let mut done = Vec::new();
    let mut ready = BTreeSet::new();
    for start in needs.keys() {
        visit(start, needs, &mut ready, &mut Vec::new(), &mut done)?;
    }
    Ok(done)
}

/// Depth first, with a stack of its own: names come from outside, and so does how many there are.
fn visit<'a>(
    start: &'a str,
    needs: &'a BTreeMap<String, Vec<String>>,
    ready: &mut BTreeSet<&'a str>,
    path: &mut Vec<&'a str>,
    done: &mut Vec<String>,
) -> Result<(), Refusal> {
    let mut stack = vec![(start, 0usize)];
    path.push(start);
    while let Some((app, at)) = stack.pop() {
        if ready.contains(app) {
            path.pop();
            continue;
        }
        let next = needs.get(app).and_then(|wanted| wanted.get(at));
        let Some(next) = next else {
            ready.insert(app);
            done.push(app.to_owned());
            path.pop();
            continue;
        };
        stack.push((app, at + 1));
        if ready.contains(next.as_str()) {
            continue;
        }
        if let Some(from) = path.iter().position(|on| on == next) {
            let mut circle: Vec<&str> = path[from..].to_vec();
            circle.push(next);
            let circle = circle.join(" -> ");
            return Err(Refusal::unfit(format!("apps wait for each other in a circle: {circle}")));
        }
        path.push(next);
        stack.push((next, 0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(table: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        table.iter().map(|(app, wanted)| ((*app).to_owned(), owned(wanted))).collect()
    }

    #[test]
    fn each_comes_after_what_it_waits_for() {
        let order =
            order(&needs(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[]), ("d", &["a"])])).expect("fine");
        assert_eq!(order, ["c", "b", "a", "d"]);
    }

    #[test]
    fn circles_and_strangers_are_named() {
        let circle = order(&needs(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).expect_err("a circle");
        assert_eq!(
            (circle.code, circle.message.as_str()),
            (422, "apps wait for each other in a circle: b -> c -> b")
        );
        let itself = order(&needs(&[("a", &["a"])])).expect_err("a circle");
        assert!(itself.message.ends_with("a -> a"), "{itself}");
        let stranger = order(&needs(&[("a", &["x"])])).expect_err("a stranger");
        assert_eq!(stranger.code, 404);
    }

    #[test]
    fn a_long_chain_is_no_problem() {
        let mut chain: BTreeMap<String, Vec<String>> =
            (0..4_000).map(|n| (format!("{n:06}"), vec![format!("{:06}", n + 1)])).collect();
        chain.insert("004000".to_owned(), Vec::new());
        assert_eq!(order(&chain).expect("fine").len(), 4_001);
    }
}
