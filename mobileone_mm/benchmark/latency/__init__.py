"""What costs latency (paper, section 3.1), measured on any machine."""
