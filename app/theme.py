"""Colours of the window and of the plots: light, dark, or as the system says.

On Linux the window uses Qt's Fusion style with the palettes below; on Windows and macOS the native
style is kept and only told which scheme to use. Plot colours are chosen so that every curve stands
out from its background by a contrast of at least 3:1 and stays apart from the others for people
with deuteranopia, protanopia or tritanopia; tests/ui/test_theme.py measures both.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication


class ThemeChoice(StrEnum):
    """What the person asked for."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True, slots=True)
class Colors:
    """Colours of one theme as ``#rrggbb``."""

    dark: bool
    window: str  # behind panels
    base: str  # behind lists, logs and plots
    text: str
    muted: str  # secondary text
    disabled: str
    border: str  # of a card, and what merely divides
    field: str  # border of what is written in, chosen or pressed: 3:1 against all it may lie on
    button: str
    accent: str  # the primary button, selection, focus
    on_accent: str
    warning: str  # warning text and marks
    warning_fill: str
    error: str
    error_fill: str
    info_fill: str
    success: str
    plot_axis: str
    loss: str
    norm_pre: str
    norm_post: str
    limit: str  # the max_norm line
    large: str  # the 200 line
    mark: str  # non-finite batches
    share: str  # the share of clipped batches


LIGHT = Colors(
    dark=False,
    window="#f3f4f6",
    base="#ffffff",
    text="#1c2126",
    muted="#5b6570",
    disabled="#828b95",
    border="#d3d8de",
    field="#6f7a89",
    button="#fbfbfc",
    accent="#1f5fbf",
    on_accent="#ffffff",
    warning="#8a4b00",
    warning_fill="#fdf0d8",
    error="#b3261e",
    error_fill="#fbe4e2",
    info_fill="#e4edf9",
    success="#1b6e3c",
    plot_axis="#5b6570",
    loss="#1f5fbf",
    norm_pre="#d55e00",
    norm_post="#0072b2",
    limit="#5b6570",
    large="#8c5a7a",
    mark="#b3261e",
    share="#8c5a7a",
)
DARK = Colors(
    dark=True,
    window="#20242a",
    base="#16191d",
    text="#e4e7eb",
    muted="#a0a9b4",
    disabled="#7b8591",
    border="#3a414a",
    field="#748295",
    button="#2b3038",
    accent="#4c8ee6",
    on_accent="#0b1220",
    warning="#f0b35a",
    warning_fill="#3b2f1a",
    error="#ff8a80",
    error_fill="#43221f",
    info_fill="#1f2f45",
    success="#6cc58b",
    plot_axis="#a0a9b4",
    loss="#7db4f5",
    norm_pre="#f0922e",
    norm_post="#56b4e9",
    limit="#a0a9b4",
    large="#cc9ab8",
    mark="#ff8a80",
    share="#cc9ab8",
)


def _palette(colors: Colors) -> QPalette:
    role = QPalette.ColorRole
    palette = QPalette()
    for target, value in (
        (role.Window, colors.window),
        (role.WindowText, colors.text),
        (role.Base, colors.base),
        (role.AlternateBase, colors.window),
        (role.Text, colors.text),
        (role.Button, colors.button),
        (role.ButtonText, colors.text),
        (role.BrightText, colors.error),
        (role.ToolTipBase, colors.base),
        (role.ToolTipText, colors.text),
        (role.PlaceholderText, colors.muted),
        (role.Highlight, colors.accent),
        (role.HighlightedText, colors.on_accent),
        (role.Accent, colors.accent),
        (role.Link, colors.accent),
        (role.LinkVisited, colors.accent),
        (role.Mid, colors.border),
        (role.Light, colors.button),
        (role.Midlight, colors.border),
        (role.Dark, colors.border),
        (role.Shadow, colors.border),
    ):
        palette.setColor(target, QColor(value))
    for target in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, target, QColor(colors.disabled))
    palette.setColor(QPalette.ColorGroup.Disabled, role.Highlight, QColor(colors.border))
    palette.setColor(QPalette.ColorGroup.Disabled, role.HighlightedText, QColor(colors.disabled))
    palette.setColor(QPalette.ColorGroup.Disabled, role.Base, QColor(colors.window))
    return palette


def _stylesheet(colors: Colors) -> str:
    """Rules for the few widgets that carry meaning by colour; the rest is the style's own."""
    check = files("resources") / "icons" / f"check-{'black' if colors.dark else 'white'}.svg"
    return f"""
    QMainWindow::separator {{ background: {colors.window}; width: 5px; height: 5px; }}
    QMainWindow::separator:hover {{ background: {colors.border}; }}
    QPushButton[role="primary"] {{
        background: {colors.accent}; color: {colors.on_accent}; border: 1px solid {colors.accent};
        border-radius: 5px; padding: 7px 14px; font-weight: 600;
    }}
    QPushButton[role="primary"]:hover {{ background: {_mix(colors.accent, colors.text, 0.12)}; }}
    QPushButton[role="primary"]:pressed {{ background: {_mix(colors.accent, colors.text, 0.25)}; }}
    QPushButton[role="primary"]:focus {{ border: 2px solid {colors.text}; padding: 6px 13px; }}
    QPushButton[role="primary"]:disabled {{
        background: {colors.border}; color: {colors.muted}; border-color: {colors.border};
    }}
    QPushButton[role="secondary"] {{
        background: {colors.button}; color: {colors.text}; border: 1px solid {colors.field};
        border-radius: 5px; padding: 7px 12px;
    }}
    QPushButton[role="secondary"]:hover {{ border-color: {colors.muted}; }}
    QPushButton[role="secondary"]:pressed {{ background: {colors.border}; }}
    QPushButton[role="secondary"]:focus {{ border: 2px solid {colors.accent}; padding: 6px 11px; }}
    QPushButton[role="secondary"]:disabled {{ color: {colors.disabled}; background: {colors.window}; }}
    QToolButton[role="disclosure"] {{ border: none; background: transparent; padding: 4px 4px 4px 0; }}
    QToolButton[role="disclosure"]:hover, QToolButton[role="disclosure"]:focus {{ color: {colors.accent}; }}
    QLabel[role="muted"] {{ color: {colors.muted}; }}
    QLabel[role="heading"] {{ font-weight: 600; }}
    QLabel[role="fault"] {{ color: {colors.error}; }}
    QLabel[role="warning"] {{ color: {colors.warning}; font-weight: 600; }}
    QLabel[role="badge"] {{
        color: {colors.warning}; background: {colors.warning_fill}; border-radius: 4px; padding: 1px 6px;
    }}
    QLabel[state] {{
        border-radius: 4px; padding: 2px 8px; font-weight: 600;
        color: {colors.muted}; background: {_mix(colors.window, colors.text, 0.08)};
    }}
    QLabel[state="running"] {{ color: {colors.accent}; background: {colors.info_fill}; }}
    QLabel[state="paused"], QLabel[state="pausing"], QLabel[state="stopping"],
    QLabel[state="interrupted"] {{
        color: {colors.warning}; background: {colors.warning_fill};
    }}
    QLabel[state="finished"] {{ color: {colors.success}; }}
    QLabel[state="failed"] {{ color: {colors.error}; background: {colors.error_fill}; }}
    QFrame[severity="info"] {{ background: {colors.info_fill}; border-radius: 5px; }}
    QFrame[severity="warning"] {{ background: {colors.warning_fill}; border-radius: 5px; }}
    QFrame[severity="error"] {{ background: {colors.error_fill}; border-radius: 5px; }}
    *[faulty="true"] {{ border: 1px solid {colors.error}; border-radius: 3px; }}
    QProgressBar {{
        background: {_mix(colors.window, colors.text, 0.10)}; border: none; border-radius: 3px;
        min-height: 6px; max-height: 6px;
    }}
    QProgressBar::chunk {{ background: {colors.accent}; border-radius: 3px; }}
    QLineEdit {{
        background: {colors.base}; border: 1px solid {colors.field}; border-radius: 3px; padding: 2px 4px;
    }}
    QLineEdit:focus {{ border-color: {colors.accent}; }}
    QLineEdit:disabled {{ background: {colors.window}; border-color: {colors.border}; }}
    QAbstractSpinBox QLineEdit, QComboBox QLineEdit {{ border: none; padding: 0; }}
    QCheckBox::indicator, QRadioButton::indicator {{
        width: 14px; height: 14px; border: 1px solid {colors.field}; border-radius: 3px;
        background: {colors.base};
    }}
    QRadioButton::indicator {{ border-radius: 8px; }}
    QRadioButton::indicator:checked {{
        background: qradialgradient(cx: 0.5, cy: 0.5, radius: 0.5, fx: 0.5, fy: 0.5,
            stop: 0 {colors.accent}, stop: 0.5 {colors.accent}, stop: 0.6 {colors.base});
        border-color: {colors.accent};
    }}
    QCheckBox::indicator:checked {{
        background: {colors.accent}; border-color: {colors.accent}; image: url("{Path(str(check)).as_posix()}");
    }}
    QCheckBox::indicator:focus, QRadioButton::indicator:focus {{ border: 2px solid {colors.accent}; }}
    QCheckBox::indicator:disabled, QRadioButton::indicator:disabled {{ border-color: {colors.border}; background: {colors.window}; }}
    QStatusBar::item {{ border: none; }}
    QTableView {{ gridline-color: {_mix(colors.base, colors.border, 0.6)}; }}
    """


def _mix(first: str, second: str, share: float) -> str:
    """Give the colour ``share`` of the way from the first to the second."""
    a, b = QColor(first), QColor(second)
    parts = (
        round(x + (y - x) * share)
        for x, y in (
            (a.red(), b.red()),
            (a.green(), b.green()),
            (a.blue(), b.blue()),
        )
    )
    return "#{:02x}{:02x}{:02x}".format(*parts)


class Theme(QObject):
    """The theme in force. GUI thread only.

    Give it the application once; ``changed`` then tells views to take new colours, whether the person
    chose another theme or the system switched by itself.
    """

    changed = Signal()

    def __init__(self, application: QApplication, choice: ThemeChoice) -> None:
        super().__init__()
        self._application = application
        self._choice = choice
        self._own_palette = sys.platform.startswith("linux")
        if self._own_palette:
            application.setStyle("Fusion")
        self.colors = LIGHT
        self._apply()
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._on_scheme_changed)

    @property
    def choice(self) -> ThemeChoice:
        """What the person asked for; ``colors.dark`` is what came of it."""
        return self._choice

    def choose(self, choice: ThemeChoice) -> None:
        """Use another theme from now on."""
        if choice is self._choice:
            return
        self._choice = choice
        self._apply()
        self.changed.emit()

    def _apply(self) -> None:
        hints = QGuiApplication.styleHints()
        if self._choice is ThemeChoice.SYSTEM:
            if not self._own_palette:
                hints.unsetColorScheme()
            dark = hints.colorScheme() == Qt.ColorScheme.Dark
        else:
            dark = self._choice is ThemeChoice.DARK
            if not self._own_palette:
                hints.setColorScheme(Qt.ColorScheme.Dark if dark else Qt.ColorScheme.Light)
        self.colors = DARK if dark else LIGHT
        if self._own_palette:
            self._application.setPalette(_palette(self.colors))
        self._application.setStyleSheet(_stylesheet(self.colors))

    @Slot()
    def _on_scheme_changed(self) -> None:
        if self._choice is ThemeChoice.SYSTEM:
            before = self.colors
            self._apply()
            if self.colors is not before:
                self.changed.emit()
