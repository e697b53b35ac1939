"""What a worker is started with, beside what it inherits."""

from cryptosvc.wiring.process import allocator_settings


def test_a_worker_keeps_freed_blocks_at_hand_unless_its_operator_says_how_many() -> None:
    (found,) = allocator_settings("").values()
    assert found.startswith("glibc.malloc.tcache_count=")
    assert allocator_settings("glibc.malloc.check=3") == {"GLIBC_TUNABLES": f"glibc.malloc.check=3:{found}"}
    assert allocator_settings("glibc.malloc.tcache_count=7") == {}
