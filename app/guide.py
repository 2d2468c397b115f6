"""The user guide in a window of its own, with its pictures."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSize, Qt, QUrl, Slot
from PySide6.QtGui import QImage, QKeySequence, QResizeEvent, QTextDocument
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

_SIZE = QSize(820, 760)
_MARGIN = 24  # of the text, in pixels
_LEAST_WIDTH = 200


class GuideWindow(QDialog):
    """Shows a page of the guide; links lead to other pages, or to the desktop's browser. GUI thread only.

    Args:
        page: Markdown file; pictures and pages that it names are looked for beside it.
    """

    def __init__(self, page: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("guide")
        self.setWindowTitle("User guide")
        self.setWindowFlag(Qt.WindowType.WindowMaximizeButtonHint)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(_SIZE)
        self.pages = _Pages()
        self.pages.setSource(_url(page), QTextDocument.ResourceType.MarkdownResource)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        back = QPushButton("&Back")
        back.setObjectName("guide_back")
        back.setShortcut(QKeySequence(QKeySequence.StandardKey.Back))
        back.setEnabled(False)
        buttons.addButton(back, QDialogButtonBox.ButtonRole.ActionRole)
        back.clicked.connect(self.pages.backward)
        self.pages.backwardAvailable.connect(back.setEnabled)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 12)
        layout.setSpacing(12)
        layout.addWidget(self.pages, 1)
        row = QVBoxLayout()
        row.setContentsMargins(16, 0, 16, 0)
        row.addWidget(buttons)
        layout.addLayout(row)
        self.pages.setFocus()


class _Pages(QTextBrowser):
    """Markdown whose pictures are never wider than the window."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("guide_text")
        self.setAccessibleName("User guide")
        self.setFrameShape(QTextBrowser.Shape.NoFrame)
        self.setOpenExternalLinks(True)
        self.document().setDocumentMargin(_MARGIN)
        # Always there: the width of a picture must not depend on how high the pictures are.
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)

    @Slot()
    def backward(self) -> None:
        """Go back to the page before."""
        super().backward()

    def loadResource(self, kind: int, name: QUrl | str) -> object:
        """Give a picture at the width that there is; everything else as it is."""
        if kind != QTextDocument.ResourceType.ImageResource.value:
            return super().loadResource(kind, name)
        image = QImage(self.source().resolved(QUrl(name)).toLocalFile())
        ratio = self.devicePixelRatioF()
        width = round(ratio * max(_LEAST_WIDTH, self.viewport().width() - 2 * _MARGIN))
        if image.width() > width:
            image = image.scaledToWidth(width, Qt.TransformationMode.SmoothTransformation)
        image.setDevicePixelRatio(ratio)
        return image

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the pictures to another width, where the reader is."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width() and self.source().isValid():
            place = self.verticalScrollBar().value() / max(1, self.verticalScrollBar().maximum())
            self.reload()
            self.verticalScrollBar().setValue(round(place * self.verticalScrollBar().maximum()))


def _url(path: Path) -> QUrl:
    return QUrl.fromLocalFile(str(path))
