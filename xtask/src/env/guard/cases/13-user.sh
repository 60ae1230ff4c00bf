# Guards without privileges: the file is found, or the line says that it cannot be.
need setpriv
chmod 755 "$W"
as="setpriv --reuid=65534 --regid=65534 --clear-groups"
for words in "1" "4 unlink"; do
    tmpfs 1m; chmod 777 "$M"
    ends 135 $as $G -- "$P/writer" "$M/f" 4000000 $words
    says "of $M/f" "no space left on $M"
    more 16m
    ends 0 $as $G --wait-space -- "$P/writer" "$M/f" 4000000 $words
    says bad=0 "goes on"
    wait
done
tmpfs 1m; chmod 777 "$M"
ends 135 $as $G --wait-space -- "$P/hostile" hides "$M/f"
says "cannot be inspected"
ends 135 $G -- "$P/hostile" hides "$M/f"
says "no space left"
# A held program that changes its user: still asked with its rights.
more 16m
ends 0 $G --wait-space -- $as "$P/writer" "$M/g" 4000000 4
says bad=0
wait
