"""How errors, news and questions reach a person: a bar above the plots, and message boxes."""

from __future__ import annotations

from enum import StrEnum

from PySide6.QtCore import QSize, Qt, Slot
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from shiboken6 import Shiboken

from app.icons import icon
from app.theme import Colors
from app.waiting import dialog_closed
from signscope.errors import SignScopeError


class Severity(StrEnum):
    """How much a message matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class MessageBar(QFrame):
    """One message at a time, above the plots, until it is closed or replaced. GUI thread only."""

    def __init__(self, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("message_bar")
        self.setAccessibleName("Message")
        self._colors = colors
        self._severity = Severity.INFO
        self._icon = QLabel()
        self._icon.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._what = QLabel()
        self._what.setObjectName("message_what")
        self._what.setProperty("role", "heading")
        self._rest = QLabel()
        self._rest.setObjectName("message_rest")
        for label in (self._what, self._rest):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self._close = QToolButton()
        self._close.setObjectName("message_close")
        self._close.setAccessibleName("Close message")
        self._close.setToolTip("Close message (Esc)")
        self._close.setShortcut("Esc")
        self._close.setAutoRaise(True)
        self._close.clicked.connect(self.dismiss)
        text = QVBoxLayout()
        text.setSpacing(2)
        text.addWidget(self._what)
        text.addWidget(self._rest)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 8, 8, 8)
        layout.setSpacing(10)
        layout.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(text, 1)
        layout.addWidget(self._close, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def tell(self, what: str, rest: str = "", severity: Severity = Severity.INFO) -> None:
        """Show a message of one heading and, below it, what it is about and what to do."""
        self._severity = severity
        self._what.setText(what)
        self._rest.setText(rest)
        self._rest.setVisible(bool(rest))
        self.setProperty("severity", severity.value)
        self.style().unpolish(self)
        self.style().polish(self)
        self.recolor(self._colors)
        self.show()

    def tell_error(self, error: SignScopeError) -> None:
        """Show an error with its three parts: what happened, to what, and what to do next."""
        self.tell(
            f"{error.what}.",
            "\n".join(part for part in (error.subject, error.hint) if part),
            Severity.ERROR,
        )

    @Slot()
    def dismiss(self) -> None:
        """Close the message."""
        self.hide()

    def text(self) -> str:
        """Give the whole message, empty when none is shown."""
        return "\n".join((self._what.text(), self._rest.text())).strip() if self.isVisible() else ""

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        color = {
            Severity.INFO: colors.accent,
            Severity.WARNING: colors.warning,
            Severity.ERROR: colors.error,
        }[self._severity]
        self._icon.setPixmap(icon(self._severity.value, color).pixmap(QSize(20, 20)))
        self._close.setIcon(icon("close", colors.muted))


async def confirmed(
    parent: QWidget,
    *,
    name: str,
    title: str,
    text: str,
    detail: str,
    yes: str,
    no: str,
    loses: bool = False,
) -> bool:
    """Ask before something is done; say whether the person agreed. GUI thread, in the qasync loop.

    Enter, Escape and the window's cross all mean no.

    Args:
        parent: Window that is asking.
        name: Object name of the box.
        title: Of the box.
        text: The question, or what is about to happen.
        detail: What follows from a yes.
        yes: Button that agrees, a verb.
        no: Button that leaves everything as it is.
        loses: Whether a yes throws something away: the box then warns.
    """
    roles = QMessageBox.ButtonRole
    box = QMessageBox(parent)
    box.setObjectName(name)
    box.setIcon(QMessageBox.Icon.Warning if loses else QMessageBox.Icon.Question)
    box.setWindowTitle(title)
    box.setText(text)
    box.setInformativeText(detail)
    agree = box.addButton(yes, roles.DestructiveRole if loses else roles.AcceptRole)
    leave = box.addButton(no, roles.RejectRole)
    box.setDefaultButton(leave)
    box.setEscapeButton(leave)
    try:
        await dialog_closed(box)
        return Shiboken.isValid(box) and box.clickedButton() is agree
    finally:
        if Shiboken.isValid(box):  # it goes with its parent
            box.deleteLater()


def unexpected_error_dialog(parent: QWidget | None, summary: str, details: str) -> QMessageBox:
    """Make the dialog for an error that nobody foresaw; the caller opens it."""
    box = QMessageBox(parent)
    box.setObjectName("unexpected_error")
    box.setIcon(QMessageBox.Icon.Critical)
    box.setWindowTitle("SignScope")
    box.setText("Something went wrong that SignScope did not expect.")
    box.setInformativeText(
        f"{summary}\n\nA run in progress goes on. If the window behaves oddly, stop the run "
        "(its work is saved) and start SignScope again. Please report this with the details below."
    )
    box.setDetailedText(details)
    box.setStandardButtons(QMessageBox.StandardButton.Close)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    return box
