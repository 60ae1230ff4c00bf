import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** The JVM's part: faults that the JVM turns into exceptions, and faults of faultin called by Java code. */
final class Faults {
    private static volatile byte sink;

    /** Copies one byte with faultin: the number of bytes copied. */
    private static native long copy(long address);

    private static boolean isNullPointerCaught(String none) {
        try {
            return none.length() < 0;
        } catch (NullPointerException expected) { // SIGSEGV
            return true;
        }
    }

    private static void read(MappedByteBuffer buffer) {
        for (int at = 0; at < buffer.capacity(); at++) {
            sink = buffer.get(at);
        }
    }

    private static boolean isTruncationCaught(String path) throws Exception {
        StandardOpenOption[] options = {StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE};
        try (FileChannel file = FileChannel.open(Path.of(path), options)) {
            MappedByteBuffer buffer = file.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 16);
            file.truncate(0);
            read(buffer);
            return false;
        } catch (InternalError expected) { // SIGBUS
            return true;
        }
    }

    /** Returns whether the JVM recovers its faults, in this thread and in one of its own. */
    static boolean recovers(String path) throws Exception {
        return in2(() -> isNullPointerCaught(null) && isTruncationCaught(path));
    }

    /** Returns whether faultin recovers its faults, in this thread and in one of the JVM's. */
    static boolean copies(long missing) throws Exception {
        return in2(() -> copy(missing) == 0);
    }

    private interface Check {
        boolean holds() throws Exception;
    }

    private static boolean in2(Check check) throws Exception {
        boolean[] there = {false};
        Thread thread = new Thread(() -> {
            try {
                there[0] = check.holds();
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        thread.start();
        thread.join();
        return check.holds() && there[0];
    }
}
