# Python in a /dev/shm of 1 MiB: shared memory, and a pool whose map() hangs without a line.
need python3
cat >"$W/shm.py" <<'P'
from multiprocessing import shared_memory
m = shared_memory.SharedMemory(create=True, size=4 << 20)
m.buf[:] = b"x" * (4 << 20)
print("sum", sum(m.buf[::4096]))
m.close(); m.unlink()
P
cat >"$W/pool.py" <<'P'
from multiprocessing import Pool, shared_memory
m = shared_memory.SharedMemory(create=True, size=4 << 20)
def work(i):
    n = shared_memory.SharedMemory(m.name)
    n.buf[i << 20:(i + 1) << 20] = bytes([i + 1]) * (1 << 20)
    return i
if __name__ == "__main__":
    with Pool(4) as pool:
        print("done", sum(pool.map(work, range(4))))
    m.unlink()
P
small() { mount -t tmpfs -o size=1m t /dev/shm || fail mount; }
small
ends 135 python3 "$W/shm.py"
ends 135 $G -- python3 "$W/shm.py"
says "no space left on /dev/shm (tmpfs of 1 MiB" "--shm-size"
umount /dev/shm; small
later "mount -o remount,size=16m /dev/shm"
ends 0 $G --wait-space -- python3 "$W/shm.py"
says "sum 122880" "waits for up to" "goes on"
wait; umount /dev/shm; small
timeout --kill-after=2 6 $G -- python3 "$W/pool.py" >"$W/said" 2>&1 </dev/null
says "no space left on /dev/shm"
umount /dev/shm; small
later "mount -o remount,size=16m /dev/shm"
ends 0 $G --wait-space -- python3 "$W/pool.py"
says "done 6" "waits for up to"
wait; umount /dev/shm
