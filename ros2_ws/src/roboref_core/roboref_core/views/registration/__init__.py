"""Registration of two RGB-D views: their relative pose from the pictures themselves; the stated poses are a prior."""

from roboref_core.views.registration.features import FeatureCache
from roboref_core.views.registration.keyframes import Keyframes, KeyframesConfig, Registrations
from roboref_core.views.registration.pose_error import PoseError, PoseErrors
from roboref_core.views.registration.register import Registration, RegistrationConfig, Verdict, register
from roboref_core.views.registration.registrar import Registrar, RegistrarConfig, RegistrationMode
from roboref_core.views.registration.surroundings import Change, ChangeEvidence, what_changed

__all__ = [
    "Change",
    "ChangeEvidence",
    "FeatureCache",
    "Keyframes",
    "KeyframesConfig",
    "PoseError",
    "PoseErrors",
    "Registrar",
    "RegistrarConfig",
    "Registration",
    "RegistrationConfig",
    "RegistrationMode",
    "Registrations",
    "Verdict",
    "register",
    "what_changed",
]
