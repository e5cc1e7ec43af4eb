//! How long rendering takes. Run by hand: `cargo nextest run -p drystone-charts --run-ignored only measure`.

use std::{fmt::Write as _, time::Instant};

use drystone_charts::{Config, Renderer};

use crate::pack;

/// A chart of the size of a large one: 144 objects, about 3 MB printed.
fn large() -> std::sync::Arc<[u8]> {
    let mut rules = String::new();
    for number in 0..700 {
        let _ = writeln!(rules, "  rule-{number}: {{{{ printf \"%s-%d\" $.Release.Name $object | quote }}}}");
    }
    let template = format!(
        "{{{{- range $object := until 144 }}}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c-{{{{ $object }}}}}}\ndata:\n{rules}{{{{- end }}}}\n"
    );
    pack::files(&[
        ("large/Chart.yaml", "apiVersion: v2\nname: large\nversion: 0.1.0\n"),
        ("large/templates/a.yaml", &template),
    ])
}

#[tokio::test]
#[ignore = "measures"]
async fn rendering() {
    let Some(helm) = pack::helm().await else { return };
    let directory = tempfile::tempdir().unwrap();
    for (name, request) in [
        ("small (10 objects)", pack::request("shop", pack::directory(&pack::data("shop"), "shop"))),
        ("large (144 objects)", pack::request("large", large())),
    ] {
        let config = Config {
            helm: Some(helm.program.clone()),
            directory: Some(directory.path().join("kept")),
            ..Config::default()
        };
        let renderer = Renderer::new(config.clone());
        renderer.helm().await.unwrap();
        // What helm alone takes for it, unpacked already.
        let unpacked = tempfile::tempdir().unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(&*request.chart)).unpack(unpacked.path()).unwrap();
        let chart = unpacked.path().join(&request.app);
        pack::by_hand(&helm, &chart, &[]).unwrap();
        let alone = Instant::now();
        pack::by_hand(&helm, &chart, &[]).unwrap();
        let alone = alone.elapsed();
        let anew = Instant::now();
        let rendering = renderer.render(&request).await.unwrap();
        let anew = anew.elapsed();
        let memory = Instant::now();
        for _ in 0..100 {
            renderer.render(&request).await.unwrap();
        }
        let memory = memory.elapsed() / 100;
        let restarted = Renderer::new(config);
        restarted.helm().await.unwrap();
        let disk = Instant::now();
        restarted.render(&request).await.unwrap();
        let disk = disk.elapsed();
        let bytes: usize = rendering.manifests.iter().map(|object| object.manifest.len()).sum();
        println!(
            "{name}, {bytes} bytes: helm alone {alone:?}, anew {anew:?}, from memory {memory:?}, from disk {disk:?}"
        );
    }
}
