use std::time::Instant;
unsafe extern "C" {
    fn memcpy(d: *mut u8, s: *const u8, n: usize) -> *mut u8;
}
fn main() {
    faultin::install().unwrap();
    println!("{:?}", faultin::status());
    unsafe {
        let p = libc::mmap(std::ptr::null_mut(), 8192, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).cast::<u8>();
        libc::munmap(p.add(4096).cast(), 4096);
        let mut d = [0u8; 512];
        println!("{:?}", faultin::copy_in(d.as_mut_ptr(), p.add(4000), 200));
        println!("{:?}", faultin::copy_in(d.as_mut_ptr(), p.add(4000), 96));
        println!("{:?}", faultin::copy_in(d.as_mut_ptr(), 0x1234_5678_9abc_def0 as *const u8, 96));
        println!("{:?}", faultin::copy_in(d.as_mut_ptr(), usize::MAX as *const u8, 96));
    }
    let max = 256 << 20;
    let src = vec![1u8; max + 4096];
    let mut dst = vec![2u8; max + 4096];
    let a = |v: usize| (v + 4095) & !4095;
    let s = a(src.as_ptr() as usize) as *const u8;
    let d = a(dst.as_mut_ptr() as usize) as *mut u8;
    for size in [
        1usize,
        2,
        3,
        4,
        7,
        8,
        15,
        16,
        24,
        32,
        33,
        48,
        64,
        65,
        96,
        128,
        129,
        200,
        256,
        257,
        300,
        400,
        512,
        640,
        1024,
        1500,
        2048,
        3000,
        4096,
        8192,
        16384,
        32768,
        65536,
        131072,
        262144,
        524288,
        1 << 20,
        2 << 20,
        4 << 20,
        8 << 20,
        16 << 20,
        24 << 20,
        32 << 20,
        48 << 20,
        64 << 20,
        128 << 20,
        256 << 20,
    ] {
        if size + 4096 > max + 4096 {
            continue;
        }
        let iters = (if size < 65536 { 200_000 } else { (200 << 20) / size }).clamp(1, 200000);
        let mut rs = vec![];
        let mut av = vec![];
        let mut bv = vec![];
        for r in 0..(if size > (1 << 20) { 7 } else { 11 }) {
            let mut f = || {
                let t = Instant::now();
                for _ in 0..iters {
                    unsafe {
                        std::hint::black_box(
                            faultin::copy_in(
                                std::hint::black_box(d),
                                std::hint::black_box(s),
                                std::hint::black_box(size),
                            )
                            .unwrap(),
                        );
                    }
                }
                t.elapsed().as_nanos() as f64 / iters as f64
            };
            let mut g = || {
                let t = Instant::now();
                for _ in 0..iters {
                    unsafe {
                        std::hint::black_box(memcpy(
                            std::hint::black_box(d),
                            std::hint::black_box(s),
                            std::hint::black_box(size),
                        ));
                    }
                }
                t.elapsed().as_nanos() as f64 / iters as f64
            };
            let (x, y) = if r % 2 == 0 {
                let x = f();
                (x, g())
            } else {
                let y = g();
                (f(), y)
            };
            rs.push(x / y);
            av.push(x);
            bv.push(y);
        }
        for v in [&mut rs, &mut av, &mut bv] {
            v.sort_by(|a, b| a.partial_cmp(b).unwrap());
        }
        println!(
            "{size:>10} ours {:>12.2} memcpy {:>12.2} ratio {:.3}",
            av[av.len() / 2],
            bv[bv.len() / 2],
            rs[rs.len() / 2]
        );
    }
}
