//! Operation occurrences, instances and VIMs as objects of the API.
