"""What the camera preview says in place of a picture."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Slot
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.icons import icon


class MessagePage(QWidget):
    """Icon, heading, text and what can be done about it, in the middle of the preview."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("camera_message")
        self._icon = QLabel()
        self._icon.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.heading = QLabel()
        self.heading.setObjectName("camera_message_heading")
        self.heading.setProperty("role", "heading")
        self.text = QLabel()
        self.text.setObjectName("camera_message_text")
        self.text.setProperty("role", "muted")
        for label in (self.heading, self.text):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button = QPushButton("Fetch models")
        self.button.setObjectName("camera_fetch")
        self.button.setProperty("role", "primary")
        self.button.setAutoDefault(True)
        self.cancel = QPushButton("Cancel")
        self.cancel.setObjectName("camera_fetch_cancel")
        self.cancel.setProperty("role", "secondary")
        self.cancel.setAutoDefault(True)
        self.progress = QProgressBar()
        self.progress.setObjectName("camera_fetch_progress")
        self.progress.setTextVisible(False)
        self.progress.setFixedWidth(240)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 16, 20, 16)
        layout.setSpacing(6)
        layout.addStretch(1)
        for widget in (self._icon, self.heading, self.text):
            layout.addWidget(widget)
        layout.addSpacing(4)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        layout.addWidget(self.progress)
        layout.setAlignment(self.progress, Qt.AlignmentFlag.AlignHCenter)
        layout.addWidget(self.cancel, 0, Qt.AlignmentFlag.AlignHCenter)
        layout.addStretch(1)
        self._icon_name = "camera"
        self.tell("", "")

    def tell(
        self, heading: str, text: str, *, icon_name: str = "camera", fetch: bool = False
    ) -> None:
        """Show a message, with the button that fetches the models where that helps."""
        self.heading.setText(heading)
        self.text.setText(text)
        self.text.setVisible(bool(text))
        self.button.setVisible(fetch)
        self.progress.hide()
        self.cancel.hide()
        self._icon_name = icon_name
        self.recolor()

    def tell_waiting(self, heading: str, text: str) -> None:
        """Show a message over a bar that moves, with the button that ends the waiting."""
        self.tell(heading, text)
        self.progress.setRange(0, 0)
        self.progress.show()
        self.cancel.show()

    @Slot(int, int)
    def show_progress(self, done: int, total: int) -> None:
        """Say how many bytes have arrived, of how many (0 while unknown)."""
        mib = 1 << 20
        amount = f"{done / mib:.1f} of {total / mib:.1f} MB" if total else f"{done / mib:.1f} MB"
        self.text.setText(amount)
        self.progress.setRange(0, 1000 if total else 0)
        if total:
            self.progress.setValue(1000 * done // total)

    def recolor(self) -> None:
        """Take the colours of the theme in force."""
        color = self.palette().color(QPalette.ColorRole.PlaceholderText).name()
        self._icon.setPixmap(icon(self._icon_name, color).pixmap(QSize(32, 32)))
