"""How hypothesis searches in these tests: as long as it takes, since a first call may load a parser or an engine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "passes", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("passes")
