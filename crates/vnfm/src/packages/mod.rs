//! Onboarding of VNF packages.
