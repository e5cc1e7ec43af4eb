use super::*;

fn request() -> Request {
    Request {
        app: "app".to_owned(),
        release: "r".to_owned(),
        namespace: "n".to_owned(),
        ..Request::default()
    }
}

#[test]
fn every_part_of_a_request_is_in_its_digest() {
    let base = digest(&request(), "v3.18.0");
    let mut changed = vec![digest(&request(), "v3.18.1")];
    let changes: [fn(&mut Request); 8] = [
        |request| request.app = "ap".to_owned(),
        |request| request.release = "rn".to_owned(),
        |request| request.namespace = "m".to_owned(),
        |request| request.chart = Arc::from(&b"x"[..]),
        |request| request.profile = Some(Arc::default()),
        |request| request.kube_version = Some("1.30".to_owned()),
        |request| drop(request.overrides.insert("a".to_owned(), "b".to_owned())),
        |request| drop(request.overrides.insert("ab".to_owned(), String::new())),
    ];
    for change in changes {
        let mut request = request();
        change(&mut request);
        changed.push(digest(&request, "v3.18.0"));
    }
    changed.push(base);
    let count = changed.len();
    changed.sort();
    changed.dedup();
    assert_eq!(changed.len(), count);
}

#[test]
fn names_are_checked_before_anything_is_done() {
    check_names(&request()).unwrap();
    type Change = fn(&mut Request);
    let bad: [(Change, &str); 6] = [
        (|request| request.app = "../x".to_owned(), "app `../x`"),
        (|request| request.app = String::new(), "app ``"),
        (|request| request.release = "V1.0".to_owned(), "release name `V1.0`"),
        (|request| request.release = "a".repeat(54), "53"),
        (|request| request.namespace = "-x".to_owned(), "namespace `-x`"),
        (|request| request.kube_version = Some("--set=a".to_owned()), "Kubernetes version"),
    ];
    for (change, told) in bad {
        let mut request = request();
        change(&mut request);
        let error = check_names(&request).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn secrets_are_in_no_debug_output() {
    let mut request = request();
    request.overrides.insert("password".to_owned(), "geheim".to_owned());
    let told = format!("{request:?}");
    assert!(told.contains("password") && !told.contains("geheim"), "{told}");
}

#[test]
fn values_are_cut_out_of_warnings() {
    let words = "coalesce.go:289: warning: destination for app.x is a table. Ignoring non-table value (geheim)\n\nWARNING: This chart is deprecated\n";
    let told: Vec<String> = warnings(words).collect();
    assert_eq!(told.len(), 2);
    assert!(!told[0].contains("geheim") && told[1].contains("deprecated"));
}
