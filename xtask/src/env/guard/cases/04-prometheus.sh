# unpack: prometheus
# Prometheus maps a file when it starts: explained, and "Server is ready" when there is space.
prometheus=$UNPACKED/usr/bin/prometheus
[ -x "$prometheus" ] || skip "prometheus: the package cannot be downloaded"
printf 'global: {}\n' >"$W/p.yml"
start="$prometheus --config.file=$W/p.yml --storage.tsdb.path=$M --web.listen-address=127.0.0.1:19093"
fill() { tmpfs 64k; head -c 60k /dev/zero >"$M/fill"; head -c 8k /dev/zero >>"$M/fill" 2>/dev/null; }
fill
ends 2 $G -- $start
says "queries.active" "no space left on $M"
fill
more 64m
timeout 60 $G --wait-space=40s -- $start >"$W/said" 2>&1 &
for i in $(seq 100); do grep -q 'Server is ready' "$W/said" && break; sleep 0.3; done
kill %2 2>/dev/null; wait
says "waits for up to" "goes on after" "Server is ready"
