//! Effects on VIMs, as steps of the engine.
