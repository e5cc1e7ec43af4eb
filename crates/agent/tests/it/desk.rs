//! A desk that gives orders and notes what it hears; and a server of images that may break off.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post, put},
};
use drystone_agent::{
    download::Detours,
    linux::BlockDevice,
    machine::{Disk, Machine, MachineError},
    medium::AgentConfig,
    protocol::{DiskDetails, Inventory, Orders, Progress, Report},
    run::run,
};

pub(crate) const TOKEN: &str = "u-1.secret";

/// What a desk knows.
#[derive(Clone, Default)]
pub(crate) struct Desk {
    pub(crate) orders: Arc<Mutex<Option<Orders>>>,
    pub(crate) inventory: Arc<Mutex<Option<Inventory>>>,
    pub(crate) progress: Arc<Mutex<Vec<Progress>>>,
    pub(crate) reports: Arc<Mutex<Vec<Report>>>,
    /// So many requests are answered 503 before one is answered.
    pub(crate) unwell: Arc<AtomicU32>,
    pub(crate) image: Arc<Mutex<Vec<u8>>>,
    /// So many fetches of the image break off in the middle.
    pub(crate) breaks: Arc<AtomicU32>,
}

fn check(desk: &Desk, headers: &HeaderMap) -> Result<(), StatusCode> {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    if given != Some(&format!("Bearer {TOKEN}")) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let unwell = desk.unwell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if unwell.is_ok() { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(()) }
}

impl Desk {
    fn is_present(&self, order: &str) -> bool {
        self.orders.lock().unwrap().as_ref().is_some_and(|orders| orders.id == order)
    }

    fn heard(&self, present: bool) -> StatusCode {
        if present { StatusCode::NO_CONTENT } else { StatusCode::CONFLICT }
    }

    fn router(&self) -> Router {
        Router::new()
            .route(
                "/agent/v1/orders",
                get(|State(desk): State<Desk>, headers: HeaderMap| async move {
                    check(&desk, &headers)?;
                    let orders = desk.orders.lock().unwrap().clone();
                    orders.map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
                }),
            )
            .route(
                "/agent/v1/inventory",
                put(|State(desk): State<Desk>, headers: HeaderMap, Json(inventory): Json<Inventory>| async move {
                    check(&desk, &headers)?;
                    *desk.inventory.lock().unwrap() = Some(inventory);
                    Ok::<_, StatusCode>(StatusCode::NO_CONTENT)
                }),
            )
            .route(
                "/agent/v1/progress",
                post(|State(desk): State<Desk>, headers: HeaderMap, Json(progress): Json<Progress>| async move {
                    check(&desk, &headers)?;
                    let present = desk.is_present(&progress.order);
                    desk.progress.lock().unwrap().push(progress);
                    Ok::<_, StatusCode>(desk.heard(present))
                }),
            )
            .route(
                "/agent/v1/result",
                post(|State(desk): State<Desk>, headers: HeaderMap, Json(report): Json<Report>| async move {
                    check(&desk, &headers)?;
                    let present = desk.is_present(&report.order);
                    if present {
                        desk.reports.lock().unwrap().push(report);
                    }
                    Ok::<_, StatusCode>(desk.heard(present))
                }),
            )
            .route("/image", get(image))
            .with_state(self.clone())
    }

    /// Serves until the test ends.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// Waits until something has been reported of an order.
    pub(crate) async fn report_of(&self, order: &str) -> Report {
        for _ in 0..6000 {
            let found = self.reports.lock().unwrap().iter().find(|report| report.order == order).cloned();
            if let Some(report) = found {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing was reported of {order}; progress: {:?}", self.progress.lock().unwrap());
    }
}

async fn image(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    let image = desk.image.lock().unwrap().clone();
    let range = headers.get("range").and_then(|range| range.to_str().ok()).map(|range| {
        let (from, to) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        let from = from.parse::<usize>().unwrap().min(image.len());
        (from, to.parse::<usize>().map_or(image.len(), |to| (to + 1).min(image.len())))
    });
    let (from, to) = range.unwrap_or((0, image.len()));
    let breaks =
        desk.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    let end = if breaks { from + (to - from) / 2 } else { to };
    let (begun, whole) = (image[from..end].to_vec(), end == to);
    let begun = futures::stream::iter([Ok(Bytes::from(begun))]);
    let rest = futures::stream::once(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if whole { Ok(Bytes::new()) } else { Err(std::io::Error::other("cut")) }
    });
    Response::builder()
        .status(if range.is_some() { 206 } else { 200 })
        .header("content-length", to - from)
        .header("content-range", format!("bytes {from}-{}/{}", to.max(1) - 1, image.len()))
        .body(Body::from_stream(futures::StreamExt::chain(begun, rest)))
        .unwrap()
}

/// A machine with one disk, which is a file.
pub(crate) struct FileMachine {
    pub(crate) disk: PathBuf,
    pub(crate) size: u64,
}

#[async_trait]
impl Machine for FileMachine {
    async fn inventory(&self) -> Result<Inventory, MachineError> {
        let disk = DiskDetails {
            name: self.disk.display().to_string(),
            size_bytes: self.size,
            serial_number: "S1".to_owned(),
            ..DiskDetails::default()
        };
        Ok(Inventory { architecture: "x86_64".to_owned(), disks: vec![disk], ..Inventory::default() })
    }

    async fn open(&self, disk: &DiskDetails) -> Result<Box<dyn Disk>, MachineError> {
        let device = BlockDevice::open(disk.name.as_ref());
        Ok(Box::new(device.map_err(|error| MachineError::new("opening the disk", error))?))
    }
}

/// Starts an agent that works for the desk.
pub(crate) fn start_agent(machine: FileMachine, desk: SocketAddr) -> tokio::task::JoinHandle<()> {
    let named = SocketAddr::from(([10, 20, 0, 1], 6443));
    let config = AgentConfig {
        url: format!("http://{named}"),
        token: TOKEN.to_owned(),
        ca: String::new(),
        network_data: String::new(),
    };
    let detours = Detours::default().with(named, desk);
    tokio::spawn(async move {
        let Err(error) = run(Arc::new(machine), &config, detours).await;
        panic!("the agent ended: {error}");
    })
}
