//! Resource managers and the composing manager.
