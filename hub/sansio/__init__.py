"""The ground floor: the rules, without I/O, clock, Trio or logging."""
