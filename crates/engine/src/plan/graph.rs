//! The dependency graph of a plan, by index.

use std::collections::{BTreeSet, HashMap};

use drystone_api::StepSpec;

use super::PlanError;

/// The directed acyclic graph of a plan's steps; steps are referred to by their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    dependencies: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    order: Vec<usize>,
    tail_seconds: Vec<u64>,
}

impl Graph {
    /// Resolves the dependencies of `steps`.
    ///
    /// # Errors
    /// Duplicate ids, unknown dependencies, cycles.
    pub(super) fn new(steps: &[StepSpec]) -> Result<Self, PlanError> {
        let mut index_of = HashMap::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            if let Some(first) = index_of.insert(step.id.as_str(), index) {
                return Err(PlanError::DuplicateId { index, first, id: step.id.clone() });
            }
        }
        let mut dependencies = Vec::with_capacity(steps.len());
        let mut dependents = vec![Vec::new(); steps.len()];
        for (index, step) in steps.iter().enumerate() {
            // A set: naming a dependency twice is harmless.
            let mut own = BTreeSet::new();
            for dependency in &step.depends_on {
                let target =
                    index_of.get(dependency.as_str()).ok_or_else(|| PlanError::UnknownDependency {
                        index,
                        id: step.id.clone(),
                        dependency: dependency.clone(),
                    })?;
                own.insert(*target);
            }
            for &dependency in &own {
                dependents[dependency].push(index);
            }
            dependencies.push(own.into_iter().collect::<Vec<_>>());
        }
        let order = topological_order(&dependencies, &dependents);
        if order.len() < steps.len() {
            return Err(PlanError::Cycle { steps: find_cycle(steps, &dependencies, &order) });
        }
        let mut graph = Self { dependencies, dependents, order, tail_seconds: Vec::new() };
        graph.tail_seconds = graph.longest_tails(|index| u64::from(steps[index].estimate_seconds.max(1)));
        Ok(graph)
    }

    /// What must have succeeded before step `index`, ascending.
    pub fn dependencies(&self, index: usize) -> &[usize] {
        &self.dependencies[index]
    }

    /// What waits for step `index`, ascending.
    pub fn dependents(&self, index: usize) -> &[usize] {
        &self.dependents[index]
    }

    /// All steps, each after its dependencies; the same for the same plan.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Estimated seconds from the start of step `index` to the end of the longest chain that hangs on it.
    pub fn tail_seconds(&self, index: usize) -> u64 {
        self.tail_seconds[index]
    }

    /// The critical path: the chain of steps that takes longest by the estimates, first to last.
    pub fn critical_path(&self) -> Vec<usize> {
        let longest = |candidates: &mut dyn Iterator<Item = usize>| {
            // The lowest index among equals, so that the answer does not depend on the order of the candidates.
            candidates.max_by_key(|&index| (self.tail_seconds[index], std::cmp::Reverse(index)))
        };
        let mut path = Vec::new();
        let mut next =
            longest(&mut (0..self.order.len()).filter(|&index| self.dependencies[index].is_empty()));
        while let Some(index) = next {
            path.push(index);
            next = longest(&mut self.dependents[index].iter().copied());
        }
        path
    }

    /// For each step the largest sum of `cost` along a chain that begins with it.
    pub fn longest_tails(&self, cost: impl Fn(usize) -> u64) -> Vec<u64> {
        let mut tails = vec![0; self.order.len()];
        for &index in self.order.iter().rev() {
            let after = self.dependents[index].iter().map(|&next| tails[next]).max().unwrap_or(0);
            tails[index] = cost(index).saturating_add(after);
        }
        tails
    }
}

/// Kahn's algorithm; among steps that are free at the same time, the lowest index first. Shorter than the input if there is
/// a cycle.
fn topological_order(dependencies: &[Vec<usize>], dependents: &[Vec<usize>]) -> Vec<usize> {
    let mut missing: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    let mut free: BTreeSet<usize> = (0..missing.len()).filter(|&index| missing[index] == 0).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(index) = free.pop_first() {
        order.push(index);
        for &next in &dependents[index] {
            missing[next] -= 1;
            if missing[next] == 0 {
                free.insert(next);
            }
        }
    }
    order
}

/// Ids along one circle, given that the steps in `order` are on none.
fn find_cycle(steps: &[StepSpec], dependencies: &[Vec<usize>], order: &[usize]) -> Vec<String> {
    let sound: BTreeSet<usize> = order.iter().copied().collect();
    let next =
        |index: usize| dependencies[index].iter().copied().find(|dependency| !sound.contains(dependency));
    // Every step that Kahn's algorithm left over depends on another such step: walking on, one is met twice.
    let mut path = Vec::new();
    let mut at = (0..steps.len()).find(|index| !sound.contains(index));
    while let Some(index) = at {
        if let Some(start) = path.iter().position(|&seen| seen == index) {
            path.push(index);
            return path[start..].iter().map(|&step| steps[step].id.clone()).collect();
        }
        path.push(index);
        at = next(index);
    }
    Vec::new()
}
