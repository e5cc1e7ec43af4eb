//! Tokens from issue to verdict.
