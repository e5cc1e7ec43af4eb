//! Types and protocol of ETSI NFV-SOL003 (VNF life cycle management, edition 3.3.1): what any VNF manager needs. No I/O.
//!
//! [`types`] has the data types under the names and with the members of the specification, in the shape of version 2 of the API; what
//! version 1 says otherwise is translated at the border.

pub mod types;
