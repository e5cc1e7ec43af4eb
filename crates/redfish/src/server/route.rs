//! The routes of a service as data: which URIs there are, what they take and who may ask.

use http::{HeaderValue, Method};

use super::access::Privilege;

/// Who may use a method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without credentials.
    Open,
    /// Whoever has one of the privileges.
    AnyOf(&'static [Privilege]),
}

/// Reads need this.
const LOGIN: Access = Access::AnyOf(&[Privilege::Login]);

/// A URI pattern with its methods.
#[derive(Debug, Clone)]
pub struct Route {
    pattern: &'static str,
    segments: Vec<&'static str>,
    methods: Vec<(Method, Access)>,
    if_match_required: bool,
    /// The `Allow` header: every reply to a read carries it.
    allow: HeaderValue,
}

impl Route {
    /// A route; `{name}` stands for one part of the path: `/redfish/v1/Systems/{system}`.
    pub fn new(pattern: &'static str) -> Self {
        let segments = pattern.split('/').filter(|segment| !segment.is_empty()).collect();
        Self {
            pattern,
            segments,
            methods: Vec::new(),
            if_match_required: false,
            allow: HeaderValue::from_static(""),
        }
    }

    /// Can be read by whoever can log in.
    #[must_use]
    pub fn get(self) -> Self {
        self.with(Method::GET, LOGIN)
    }

    /// Can be read by anybody.
    #[must_use]
    pub fn get_open(self) -> Self {
        self.with(Method::GET, Access::Open)
    }

    /// Takes POST from whoever has one of the privileges.
    #[must_use]
    pub fn post(self, privileges: &'static [Privilege]) -> Self {
        self.with(Method::POST, Access::AnyOf(privileges))
    }

    /// Takes POST from anybody: a login.
    #[must_use]
    pub fn post_open(self) -> Self {
        self.with(Method::POST, Access::Open)
    }

    /// Takes PATCH from whoever has one of the privileges.
    #[must_use]
    pub fn patch(self, privileges: &'static [Privilege]) -> Self {
        self.with(Method::PATCH, Access::AnyOf(privileges))
    }

    /// Takes PUT from whoever has one of the privileges.
    #[must_use]
    pub fn put(self, privileges: &'static [Privilege]) -> Self {
        self.with(Method::PUT, Access::AnyOf(privileges))
    }

    /// Takes DELETE from whoever has one of the privileges.
    #[must_use]
    pub fn delete(self, privileges: &'static [Privilege]) -> Self {
        self.with(Method::DELETE, Access::AnyOf(privileges))
    }

    /// Takes PATCH and PUT with `If-Match` only.
    #[must_use]
    pub fn if_match_required(mut self) -> Self {
        self.if_match_required = true;
        self
    }

    fn with(mut self, method: Method, access: Access) -> Self {
        self.methods.push((method, access));
        let mut names: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        self.allow = HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""));
        self
    }

    /// The pattern.
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// The methods with who may use them. GET stands for HEAD too.
    pub fn methods(&self) -> &[(Method, Access)] {
        &self.methods
    }

    /// Whether a change needs `If-Match`.
    pub fn needs_if_match(&self) -> bool {
        self.if_match_required
    }

    /// Who may use a method, if the route takes it.
    pub fn access(&self, method: &Method) -> Option<Access> {
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|(method, _)| method == wanted).map(|(_, access)| *access)
    }

    /// The `Allow` header.
    pub fn allow(&self) -> HeaderValue {
        self.allow.clone()
    }

    /// How many parts of the pattern are fixed, if it fits the path.
    fn fit(&self, path: &[&str]) -> Option<usize> {
        let fits = self.segments.len() == path.len()
            && self
                .segments
                .iter()
                .zip(path)
                .all(|(pattern, part)| pattern.starts_with('{') || pattern == part);
        fits.then(|| self.segments.iter().filter(|segment| !segment.starts_with('{')).count())
    }
}

/// All routes of a service.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// Routes by number of parts: only those can fit.
    by_length: Vec<Vec<Route>>,
    /// The route of every other URI below the root, for services whose resources others make up.
    rest: Option<Route>,
}

impl RouteTable {
    /// A table of routes; their order does not matter, fixed parts go before open ones.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut table = Self::default();
        for route in routes {
            table.add(route);
        }
        table
    }

    /// Adds a route.
    pub fn add(&mut self, route: Route) {
        let length = route.segments.len();
        if self.by_length.len() <= length {
            self.by_length.resize_with(length + 1, Vec::new);
        }
        if let Some(routes) = self.by_length.get_mut(length) {
            routes.push(route);
        }
    }

    /// Every URI below `/redfish/v1` that has no route of its own can be read too, if there is something.
    #[must_use]
    pub fn readable_below_root(mut self) -> Self {
        self.rest = Some(Route::new("/redfish/v1/{rest}").get());
        self
    }

    /// Adds the routes of a room.
    #[must_use]
    pub fn with(mut self, routes: impl IntoIterator<Item = Route>) -> Self {
        routes.into_iter().for_each(|route| self.add(route));
        self
    }

    /// The route of a path, given in parts.
    pub fn find(&self, path: &[&str]) -> Option<&Route> {
        let candidates = self.by_length.get(path.len()).map(Vec::as_slice).unwrap_or_default();
        let fitting = candidates.iter().filter_map(|route| Some((route.fit(path)?, route)));
        let best = fitting.max_by_key(|(fixed, _)| *fixed).map(|(_, route)| route);
        best.or_else(|| self.rest.as_ref().filter(|_| matches!(path, ["redfish", "v1", _, ..])))
    }

    /// Every route.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_length.iter().flatten().chain(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> RouteTable {
        RouteTable::new([
            Route::new("/redfish/v1/Systems/{system}").get().patch(&[Privilege::ConfigureComponents]),
            Route::new("/redfish/v1/Systems/Special").get(),
            Route::new("/redfish/v1").get_open(),
        ])
    }

    #[test]
    fn fixed_parts_go_before_open_ones() {
        let table = table();
        let pattern = |path: &[&str]| table.find(path).map(Route::pattern);
        assert_eq!(pattern(&["redfish", "v1", "Systems", "1"]), Some("/redfish/v1/Systems/{system}"));
        assert_eq!(pattern(&["redfish", "v1", "Systems", "Special"]), Some("/redfish/v1/Systems/Special"));
        assert_eq!(pattern(&["redfish", "v1", "Systems"]), None);
        assert_eq!(pattern(&["redfish", "v1"]), Some("/redfish/v1"));
    }

    #[test]
    fn head_goes_with_get_and_allow_lists_both() {
        let table = table();
        let route = table.find(&["redfish", "v1", "Systems", "1"]).unwrap();
        assert_eq!(route.access(&Method::HEAD), Some(LOGIN));
        assert_eq!(route.access(&Method::DELETE), None);
        assert_eq!(route.allow(), "GET, PATCH, HEAD");
    }
}
