"""What auditors and callers do, as the command line finds it; loaded when it is needed, as everything in `actions`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptosvc.cli.backup import Backups
    from cryptosvc.cli.browser.command import Consoles
    from cryptosvc.cli.incidents import Incidents
    from cryptosvc.cli.inquiry import Inquiries
    from cryptosvc.cli.processing import Processing
    from cryptosvc.cli.reporting import Reports
    from cryptosvc.cli.retention import Retention
    from cryptosvc.cli.reviewing import Reviews
    from cryptosvc.cli.witness import Witnessing


class AuditActions:
    """Gives the commands of `audit`, of MACs and of SMETS1 Devices what they work with."""

    def inquiries(self) -> "Inquiries":
        """Ask the service, and prove on this machine."""
        from cryptosvc.wiring import inquiring

        return inquiring.Inquiries()

    def processing(self) -> "Processing":
        """Ask the service for what is no signature."""
        from cryptosvc.wiring import processing

        return processing.Processing()

    def reports(self) -> "Reports":
        """Verify, count and lay out."""
        from cryptosvc.wiring import reporting

        return reporting.Reports()

    def incidents(self) -> "Incidents":
        """Declare a Major Security Incident."""
        from cryptosvc.wiring import incidents

        return incidents.Incidents()

    def reviews(self) -> "Reviews":
        """Sign ranges off, and tell what is left."""
        from cryptosvc.wiring import reviewing

        return reviewing.Reviews()

    def consoles(self) -> "Consoles":
        """Show it in a browser."""
        from cryptosvc.wiring import consoling

        return consoling.Consoles()

    def backups(self) -> "Backups":
        """Back the store up, and put it back."""
        from cryptosvc.wiring import backups

        return backups.Backups()

    def retention(self) -> "Retention":
        """Seal what is withheld, and clear away what is deleted."""
        from cryptosvc.wiring import retaining

        return retaining.Retention()

    def witnessing(self) -> "Witnessing":
        """Witness logs on this machine."""
        from cryptosvc.wiring import witnessing

        return witnessing.Witnessing()
