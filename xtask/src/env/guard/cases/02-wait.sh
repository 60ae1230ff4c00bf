# packages: musl-tools
# Every kind of writer finishes when there is space, also a static one of musl.
need musl-gcc
musl-gcc -static -O1 -o "$W/writer-musl" "$SOURCES/writer.c" -pthread || fail "musl-gcc"
for program in "$P/writer" "$W/writer-musl"; do
    for words in 1 2 16 "4 unlink" "4 handler" "4 block" "4 ignore"; do
        tmpfs 1m
        ends 135 "$program" "$M/f" 4000000 $words
        more 16m
        ends 0 $G --wait-space -- "$program" "$M/f" 4000000 $words
        says bad=0 "waits for up to" "goes on after"
        wait
    done
done
