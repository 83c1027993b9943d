"""What the rows of every comparison are called: the models by their samples' names, and the real clips."""

CANDIDATE = "onestep"
CONSISTENCY = "consistency"
CHAMPION = "champion"
MARKER = "champion.json"  # which champion a folder of `production` holds, or that it holds none
TEACHER = "teacher-"  # begins the name of each of the teacher's settings
REAL_VAE = "real-vae"  # the prompts' own clips through the autoencoder
REAL = "real"  # the prompts' own clips
CEILINGS = (REAL_VAE, REAL)


def teacher_row(steps: int, guidance: float) -> str:
    """What the teacher is called at one setting: `teacher-25`, `teacher-25-g4` (steps, guidance)."""
    return f"{TEACHER}{steps}" + ("" if guidance == 1.0 else f"-g{guidance:g}")
