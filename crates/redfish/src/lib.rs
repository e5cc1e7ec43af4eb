//! Redfish types, client, and what any Redfish service needs.
