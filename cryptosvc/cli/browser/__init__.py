"""The auditor's console: pages for a browser on the auditor's own machine. `docs/adr/0019-reports-and-console.md`."""
