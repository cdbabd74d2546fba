"""Speech from espeak-ng, through ctypes and the shared library in the package espeakng-loader."""

import ctypes
from dataclasses import dataclass

import numpy as np

# Values of speak_lib.h, espeak-ng 1.52.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH = 1, 2, 3
_OK = 0

_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Delivery:
    """How one utterance is spoken.

    Attributes:
        voice: an espeak-ng language, with ``+variant`` for another timbre, as in ``en-029+paul``.
        rate_wpm: speaking rate, in words per minute.
        pitch: 0 to 100; 50 is the voice's own pitch.
        seed: start of espeak-ng's random numbers, which shape its noise and flutter.
    """

    voice: str
    rate_wpm: int
    pitch: int
    seed: int


class Synthesizer:
    """One espeak-ng engine. The library keeps global state: use one instance per process."""

    def __init__(self) -> None:
        import espeakng_loader  # a development tool's dependency: absent where only tests run

        self._lib = espeakng_loader.load_library()
        self._chunks: list[np.ndarray] = []
        # The attribute keeps the callback alive for as long as the C library may call it.
        self._callback = _SYNTH_CALLBACK(self._collect)
        self.sampling_rate_hz: int = self._lib.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0
        )
        if self.sampling_rate_hz <= 0:
            raise RuntimeError("espeak-ng did not start; is its data folder complete?")
        self._lib.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, delivery: Delivery) -> np.ndarray:
        """Return ``text`` as int16 samples of shape (T,), at ``sampling_rate_hz``.

        Raises:
            ValueError: espeak-ng knows no such voice, or did not speak.
        """
        if self._lib.espeak_SetVoiceByName(delivery.voice.encode()) != _OK:
            raise ValueError(f"espeak-ng has no voice '{delivery.voice}'")
        # At its default of 100, espeak-ng's own limiter squeezes the louder variants.
        self._lib.espeak_SetParameter(_VOLUME, 20, 0)
        self._lib.espeak_SetParameter(_RATE, delivery.rate_wpm, 0)
        self._lib.espeak_SetParameter(_PITCH, delivery.pitch, 0)
        # Before each utterance, or its noise would depend on what was spoken before it.
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(delivery.seed))
        self._chunks = []
        utf8 = text.encode()
        status = self._lib.espeak_Synth(utf8, ctypes.c_size_t(len(utf8) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
        if status != _OK or not self._chunks:
            raise ValueError(f"espeak-ng could not speak '{text}' (status {status})")
        return np.concatenate(self._chunks)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0
