"""oko: a userspace OpenFlow switch whose flows can match with BPF filter programs."""
