//! Objects in the store: the bytes of an object are kept as they were encoded, and only its resourceVersion, which is the
//! revision of its key, is spliced in when it is sent. So reading and listing decode nothing.
//!
//! | module | what it does |
//! |---|---|
//! | [`encoded`] | an object's bytes: encoding, splicing, decoding |
//! | [`objects`] | reading and writing objects |
//! | [`follow`] | present state and changes, for parts of the server |
//! | [`list`] | pages of a list, and their `continue` tokens |

pub mod encoded;
pub mod follow;
pub mod list;
pub mod objects;

pub use self::encoded::{Encoded, Stored};
pub use self::list::{Continue, Page, PageRequest};
pub use self::objects::{Claims, Objects, WriteError};
