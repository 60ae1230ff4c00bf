# A JVM makes an exception of the signal: not a word of it, and no exception where it waits.
need java
cat >"$W/MB.java" <<'J'
import java.io.*; import java.nio.*; import java.nio.channels.*;
public class MB {
    public static void main(String[] a) throws Exception {
        try (RandomAccessFile f = new RandomAccessFile(a[0], "rw")) {
            f.setLength(12 << 20);
            MappedByteBuffer b = f.getChannel().map(FileChannel.MapMode.READ_WRITE, 0, 12 << 20);
            int caught = 0;
            int i = 0;
            // The exception comes a little later than the access.
            while (i < 12 << 20)
                try { for (; i < 12 << 20; ) { int at = i; i += 4096; b.put(at, (byte) 7); } for (int k = 0; k < 1000; k++) Thread.onSpinWait(); } catch (InternalError e) { caught++; }
            System.out.println("caught=" + (caught > 0));
        }
    }
}
J
java -version >/dev/null 2>&1 || skip "java: it does not run"
tmpfs 1m
timeout 60 java -Xint "$W/MB.java" "$M/f" >"$W/said" 2>&1 || skip "java: it does not run the program: $(tail -1 "$W/said")"
says "caught=true"
ends 0 $G -- java -Xint "$W/MB.java" "$M/f"
says "caught=true"
silent
tmpfs 1m; more 64m
ends 0 $G --wait-space=60s -- java -Xint "$W/MB.java" "$M/f"
says "caught=false" "waits for up to"
wait
