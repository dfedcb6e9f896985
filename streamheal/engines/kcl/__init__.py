"""Engine `kcl`: any number of containers share a stream by KCL's leases."""
