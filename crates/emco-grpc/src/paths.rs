//! Paths of the calls. The contract has no proto package: a path is `/SERVICE/METHOD`, in this very spelling.

pub(crate) const INSTALL: &str = "/installapp/InstallApp";
pub(crate) const UNINSTALL: &str = "/installapp/UninstallApp";
pub(crate) const READ: &str = "/installapp/ReadAppContext";
pub(crate) const UPDATE: &str = "/updateapp/UpdateApp";
pub(crate) const ROLL_BACK: &str = "/updateapp/RollbackApp";
pub(crate) const UPDATE_CONTEXT: &str = "/contextupdate/UpdateAppContext";
pub(crate) const TERMINATE_CONTEXT: &str = "/contextupdate/TerminateAppContext";
pub(crate) const POST_EVENT: &str = "/contextupdate/PostEvent";
pub(crate) const FILTER_CLUSTERS: &str = "/PlacementController/FilterClusters";
pub(crate) const ALERT: &str = "/readyNotify/Alert";
pub(crate) const UNSUBSCRIBE: &str = "/readyNotify/Unsubscribe";
pub(crate) const STATUS_REGISTER: &str = "/StatusNotify/StatusRegister";
pub(crate) const STATUS_DEREGISTER: &str = "/StatusNotify/StatusDeregister";
pub(crate) const PUBLISH: &str = "/ClmControllerEventChannel/Publish";
/// gRPC's own health protocol.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/Check";
