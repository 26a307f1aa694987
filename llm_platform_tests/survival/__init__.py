"""What goes wrong while the command runs: kills, outages, full disks, hostile documents; counted at the endpoint."""
