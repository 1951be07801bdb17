"""`RunPanel`: the lower part of the widget, the same under every tab: buttons, progress, status and the live plot."""

from __future__ import annotations

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from magicgui.widgets.bases import Widget

from napari_vae_repair.plugin.controls import duration, wrap
from napari_vae_repair.plugin.copying import CopyRow
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.loss_plot import LossPlot
from napari_vae_repair.plugin.runner import BAR_STEPS


class RunPanel(Container[Widget]):
    """Buttons that start and stop, and what is under way.

    Parameters
    ----------
    copies : CopyRow
        The row of buttons below them.
    """

    def __init__(self, copies: CopyRow) -> None:
        self.restore_button = PushButton(text="Restore", tooltip="API: w.start(). Start; or wait for what is running.")
        self.finish_button = PushButton(
            text="Finish", enabled=False, tooltip="API: w.finish(). End adapting now; what is better is kept."
        )
        self.cancel_button = PushButton(text="Cancel", enabled=False, tooltip="API: w.cancel(). Stop it.")
        self.save_button = PushButton(
            text="Save model…",
            enabled=False,
            tooltip="API: w.save_model(path). The last trained model, to use on other layers.",
        )
        buttons = Container[Widget](
            widgets=[self.restore_button, self.finish_button, self.cancel_button, self.save_button],
            layout="horizontal",
            labels=False,
        )
        buttons.margins = (0, 0, 0, 0)
        self.progress = ProgressBar(max=BAR_STEPS, value=0)
        self.status = Label(value="")
        super().__init__(widgets=[buttons, copies, self.progress, self.status], labels=False)
        self.margins = (0, 0, 0, 0)
        wrap(self.status)
        self.loss_plot = LossPlot()
        self.native.layout().addWidget(self.loss_plot)

    def begin(self, doing: str) -> None:
        """Show that something starts."""
        self.status.value = doing
        self.progress.value = 0
        self.loss_plot.begin()

    def show_update(self, update: Update, *, may_finish: bool, waiting: str) -> None:
        """Show where it stands; `waiting` ends the sentence."""
        self.loss_plot.add(update.losses)
        self.finish_button.enabled = may_finish and update.phase == "adapt"
        left = "" if update.seconds_left is None else f" · {duration(update.seconds_left)} left"
        self.status.value = update.text + left + waiting
        self.progress.value = round(update.fraction * BAR_STEPS)

    def show_running(self, running: bool, *, stopping: bool, queueable: bool) -> None:
        """Enable what can be pressed: `queueable` while something runs."""
        self.restore_button.text = "Queue" if running else "Restore"
        self.restore_button.enabled = not running or queueable
        self.cancel_button.enabled = running and not stopping
        if not running or stopping:
            self.finish_button.enabled = False

    def end(self, headline: str, *, details: str = "", verdict: str = "") -> None:
        """Show what came of it; the details are a tooltip of the headline, the verdict stands over the live plot."""
        self.status.value, self.status.tooltip = headline, details
        self.loss_plot.end(verdict)
