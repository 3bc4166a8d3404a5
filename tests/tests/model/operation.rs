//! What can happen, with places instead of keys, so that a failing sequence shrinks and still means something: every
//! number is taken modulo what there is when its turn comes.

use proptest::{collection::vec, prelude::*};

/// An entry of a batch.
#[derive(Clone, Debug)]
pub enum Offer {
    /// Signed for this batch.
    New(Intent),
    /// An intent signed earlier, settled or not.
    Old { index: u16, bend: Bend },
}

#[derive(Clone, Debug)]
pub struct Intent {
    pub payer: u8,
    pub lane: u8,
    pub nonce: Nonce,
    pub amount: Amount,
    pub expiry: Expiry,
    pub bend: Bend,
    pub resource: u8,
}

#[derive(Clone, Copy, Debug)]
pub enum Nonce {
    /// Above everything taken, and above this batch's others.
    Next,
    /// This far above the top.
    Ahead(u8),
    /// This far below the top.
    Behind(u16),
}

#[derive(Clone, Copy, Debug)]
pub enum Amount {
    Of(u32),
    /// At the least that the service and the mint take, and this much off.
    Minimum(i8),
    Maximum(i8),
    /// What a limit of the lane leaves, and this much more.
    Left(u8, u8),
    /// What the source holds or has approved, and this much more.
    Balance(u8),
    Approved(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum Expiry {
    In(u16),
    /// As far ahead as is allowed, and this much further.
    Furthest(u8),
    /// So long ago.
    Past(u8),
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug)]
pub enum Bend {
    Nothing,
    FlipSignature,
    OtherKey,
    MoreAmount,
    OtherResource,
    LaterExpiry,
    OtherNonce,
    OtherService,
    OldTerms,
    OldOpening,
    OtherAccount(u8),
    OtherSource(u8),
    MissingAccount,
    ForeignAccount,
    VaultAsAccount,
    LaterVersion,
    OtherMint,
    Flags(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum LaneKey {
    Own,
    First,
    Second,
    Closed,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max: u8,
    pub period: u8,
    pub secs: u8,
    pub total: u8,
    pub expiry: u8,
}

/// New terms of a service.
#[derive(Clone, Debug)]
pub struct Terms {
    pub facilitator: u8,
    pub facilitator_bps: u16,
    pub facilitator_fixed: u8,
    pub min_payment: u8,
    /// 1, 2, 4 or 8 recipients from here in the pool.
    pub count: u8,
    pub from: u8,
    /// Cuts of the whole.
    pub cuts: u16,
    pub flaw: u8,
}

/// What happens to a token account from outside.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// As it should be: open, thawed, its owner's.
    Repair,
    Freeze,
    /// Emptied first: an account with tokens in it cannot be closed.
    Close,
    /// Given to a stranger with all that is in it.
    Reown,
    /// Its owner takes the money elsewhere.
    Empty,
    /// New units.
    Mint,
}

#[derive(Clone, Debug)]
pub enum Operation {
    Settle {
        service: u8,
        relayer: u8,
        facilitator_token: u8,
        strict: bool,
        offers: Vec<Offer>,
    },
    Wait(u8),
    Slots(u8),
    Account {
        which: u8,
        turn: Turn,
    },
    Vault {
        service: u8,
        freeze: bool,
    },
    Dust {
        payer: u8,
    },
    Seize {
        service: u8,
    },
    Pay {
        service: u8,
        amount: u32,
    },
    Open {
        payer: u8,
        rent: u8,
        source: u8,
        bare: bool,
    },
    Approve {
        payer: u8,
        source: u8,
        amount: u8,
    },
    Revoke {
        payer: u8,
        source: u8,
    },
    SetLane {
        payer: u8,
        by: u8,
        lane: u8,
        key: LaneKey,
        limits: Limits,
        scope: u8,
    },
    SetSource {
        payer: u8,
        by: u8,
        source: u8,
    },
    CloseNonce {
        payer: u8,
        by: u8,
    },
    Create {
        merchant: u8,
        id: u8,
        terms: Terms,
    },
    Update {
        service: u8,
        by: u8,
        terms: Terms,
    },
    Sync {
        service: u8,
        facilitator_token: u8,
    },
    CloseService {
        service: u8,
        by: u8,
    },
    Distribute {
        service: u8,
        facilitator_token: u8,
        others: bool,
    },
    Release {
        service: u8,
        owner: u8,
        destination: u8,
    },
    Pause {
        by: u8,
        paused: bool,
    },
    Suspend {
        by: u8,
        which: u8,
        suspended: bool,
    },
    SetMint {
        by: u8,
        settles: bool,
        min: u8,
        max: u8,
    },
    SetTreasury {
        by: u8,
        which: u8,
        with_token: bool,
    },
    UpdateConfig {
        by: u8,
        bps: u8,
        facilitator_bps: u8,
        ttl: u8,
    },
    UpdateFacilitator {
        by: u8,
        which: u8,
        wallet: u8,
        mins: u8,
        relayers: u8,
    },
    Propose {
        office: u8,
        by: u8,
        next: u8,
    },
    Accept {
        office: u8,
        by: u8,
    },
}

/// Mostly the right token account of the facilitator, at times another one.
fn token() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![9 => Just(0u8), 1 => 1u8..5]
}

/// Mostly the one that may, at times another one.
fn by() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![9 => Just(0u8), 1 => 1u8..4]
}

fn bend() -> impl Strategy<Value = Bend> + Clone {
    use Bend::*;
    prop_oneof![
        50 => Just(Nothing),
        1 => Just(FlipSignature),
        1 => Just(OtherKey),
        1 => Just(MoreAmount),
        1 => Just(OtherResource),
        1 => Just(LaterExpiry),
        1 => Just(OtherNonce),
        1 => Just(OtherService),
        2 => Just(OldTerms),
        1 => Just(OldOpening),
        1 => (1u8..4).prop_map(OtherAccount),
        2 => (1u8..8).prop_map(OtherSource),
        1 => Just(MissingAccount),
        1 => Just(ForeignAccount),
        1 => Just(VaultAsAccount),
        1 => Just(LaterVersion),
        1 => Just(OtherMint),
        1 => prop_oneof![Just(2u8), Just(3), Just(4), Just(0x80), Just(0x11)].prop_map(Flags),
    ]
}

fn intent() -> impl Strategy<Value = Intent> + Clone {
    let nonce = prop_oneof![
        12 => Just(Nonce::Next),
        2 => (0u8..=5).prop_map(Nonce::Ahead),
        3 => (126u8..=129).prop_map(Nonce::Ahead),
        2 => (0u16..=6).prop_map(Nonce::Behind),
        1 => (0u16..=130).prop_map(Nonce::Behind),
        3 => (254u16..=257).prop_map(Nonce::Behind),
    ];
    let amount = prop_oneof![
        12 => (1_000u32..100_000).prop_map(Amount::Of),
        2 => (1u32..300).prop_map(Amount::Of),
        1 => (1_000_000u32..300_000_000).prop_map(Amount::Of),
        1 => (-1i8..=0).prop_map(Amount::Minimum),
        1 => (0i8..=1).prop_map(Amount::Maximum),
        4 => (0u8..3, 0u8..2).prop_map(|(which, more)| Amount::Left(which, more)),
        1 => (0u8..2).prop_map(Amount::Balance),
        1 => (0u8..2).prop_map(Amount::Approved),
    ];
    let expiry = prop_oneof![
        10 => (30u16..500).prop_map(Expiry::In),
        2 => (0u16..3).prop_map(Expiry::In),
        2 => (0u8..2).prop_map(Expiry::Furthest),
        1 => (1u8..100).prop_map(Expiry::Past),
    ];
    let lane = prop_oneof![1 => Just(0u8), 3 => Just(1u8)];
    (0u8..4, lane, nonce, amount, expiry, bend(), any::<u8>()).prop_map(
        |(payer, lane, nonce, amount, expiry, bend, resource)| Intent {
            payer,
            lane,
            nonce,
            amount,
            expiry,
            bend,
            resource,
        },
    )
}

fn settle() -> impl Strategy<Value = Operation> + Clone {
    let offer = prop_oneof![
        6 => intent().prop_map(Offer::New),
        1 => (any::<u16>(), bend()).prop_map(|(index, bend)| Offer::Old { index, bend }),
    ];
    // Only where nearly all are good do more than 16 pulls come together.
    let good = (5_000u32..100_000, 60u16..400, any::<u8>()).prop_map(|(amount, secs, resource)| {
        Offer::New(Intent {
            payer: 0,
            lane: 1,
            nonce: Nonce::Next,
            amount: Amount::Of(amount),
            expiry: Expiry::In(secs),
            bend: Bend::Nothing,
            resource,
        })
    });
    let crowd = vec(prop_oneof![30 => good, 1 => offer.clone()], 9..=18);
    let crowd = crowd.prop_map(|mut offers| {
        for (place, offer) in offers.iter_mut().enumerate() {
            if let Offer::New(intent) = offer {
                intent.payer = place as u8;
            }
        }
        offers
    });
    let offers = prop_oneof![
        16 => vec(offer.clone(), 1),
        24 => vec(offer.clone(), 1..=8),
        1 => vec(offer, 9..=18),
        3 => crowd,
    ];
    let relayer = prop_oneof![19 => 0u8..2, 1 => 2u8..5];
    (
        any::<u8>(),
        relayer,
        token(),
        prop::bool::weighted(0.2),
        offers,
    )
        .prop_map(
            |(service, relayer, facilitator_token, strict, offers)| Operation::Settle {
                service,
                relayer,
                facilitator_token,
                strict,
                offers,
            },
        )
}

fn terms() -> impl Strategy<Value = Terms> + Clone {
    let flaw = prop_oneof![12 => Just(0u8), 1 => 1u8..7];
    let share = prop_oneof![4 => 0u16..300, 1 => 4_990u16..5_002];
    (
        0u8..4,
        share,
        0u8..4,
        0u8..4,
        0u8..4,
        0u8..12,
        any::<u16>(),
        flaw,
    )
        .prop_map(
            |(
                facilitator,
                facilitator_bps,
                facilitator_fixed,
                min_payment,
                count,
                from,
                cuts,
                flaw,
            )| {
                Terms {
                    // Mostly the first one.
                    facilitator: facilitator / 3,
                    facilitator_bps,
                    facilitator_fixed,
                    min_payment,
                    count,
                    from,
                    cuts,
                    flaw,
                }
            },
        )
}

fn set_lane() -> impl Strategy<Value = Operation> + Clone {
    let key = prop_oneof![
        1 => Just(LaneKey::Own),
        5 => Just(LaneKey::First),
        3 => Just(LaneKey::Second),
        1 => Just(LaneKey::Closed),
    ];
    let limits =
        (0u8..6, 0u8..6, 0u8..8, 0u8..6, 0u8..6).prop_map(|(max, period, secs, total, expiry)| {
            Limits {
                max,
                period,
                secs,
                total,
                expiry,
            }
        });
    let lane = prop_oneof![3 => Just(0u8), 8 => Just(1u8), 1 => Just(2u8)];
    (0u8..4, by(), lane, key, limits, 0u8..16).prop_map(|(payer, by, lane, key, limits, scope)| {
        Operation::SetLane {
            payer,
            by,
            lane,
            key,
            limits,
            scope,
        }
    })
}

fn outside() -> impl Strategy<Value = Operation> + Clone {
    let turn = prop_oneof![
        8 => Just(Turn::Repair),
        4 => Just(Turn::Freeze),
        3 => Just(Turn::Close),
        2 => Just(Turn::Reown),
        1 => Just(Turn::Empty),
        2 => Just(Turn::Mint),
    ];
    prop_oneof![
        10 => (any::<u8>(), turn).prop_map(|(which, turn)| Operation::Account { which, turn }),
        2 => (any::<u8>(), prop::bool::weighted(0.3))
            .prop_map(|(service, freeze)| Operation::Vault { service, freeze }),
        1 => any::<u8>().prop_map(|service| Operation::Seize { service }),
        1 => (0u8..4).prop_map(|payer| Operation::Dust { payer }),
        8 => (any::<u8>(), prop_oneof![1 => 1u32..5, 4 => 1_000u32..1_000_000])
            .prop_map(|(service, amount)| Operation::Pay { service, amount }),
        8 => (0u8..20).prop_map(Operation::Wait),
        4 => (0u8..4).prop_map(Operation::Slots),
    ]
}

fn payers() -> impl Strategy<Value = Operation> + Clone {
    let source = || prop_oneof![5 => Just(0u8), 2 => Just(1u8), 1 => Just(2u8)];
    prop_oneof![
        6 => (0u8..4, 0u8..3, source(), prop::bool::weighted(0.3))
            .prop_map(|(payer, rent, source, bare)| Operation::Open { payer, rent, source, bare }),
        5 => (0u8..4, source(), 0u8..5)
            .prop_map(|(payer, source, amount)| Operation::Approve { payer, source, amount }),
        1 => (0u8..4, source()).prop_map(|(payer, source)| Operation::Revoke { payer, source }),
        8 => set_lane(),
        2 => (0u8..4, by(), source())
            .prop_map(|(payer, by, source)| Operation::SetSource { payer, by, source }),
        6 => (0u8..4, prop_oneof![5 => Just(0u8), 3 => Just(1u8), 1 => 2u8..4])
            .prop_map(|(payer, by)| Operation::CloseNonce { payer, by }),
    ]
}

fn services() -> impl Strategy<Value = Operation> + Clone {
    prop_oneof![
        1 => (0u8..2, 0u8..8, terms())
            .prop_map(|(merchant, id, terms)| Operation::Create { merchant, id, terms }),
        5 => (any::<u8>(), by(), terms())
            .prop_map(|(service, by, terms)| Operation::Update { service, by, terms }),
        3 => (any::<u8>(), token()).prop_map(|(service, facilitator_token)| Operation::Sync {
            service,
            facilitator_token
        }),
        1 => (any::<u8>(), by()).prop_map(|(service, by)| Operation::CloseService { service, by }),
        6 => (any::<u8>(), token(), any::<bool>()).prop_map(
            |(service, facilitator_token, others)| Operation::Distribute {
                service,
                facilitator_token,
                others
            }
        ),
        4 => (any::<u8>(), any::<u8>(), by()).prop_map(|(service, owner, destination)| {
            Operation::Release { service, owner, destination }
        }),
    ]
}

/// What stops things comes half as often as what lets them go on.
fn governance() -> impl Strategy<Value = Operation> + Clone {
    prop_oneof![
        3 => (by(), prop::bool::weighted(0.3))
            .prop_map(|(by, paused)| Operation::Pause { by, paused }),
        3 => (by(), any::<u8>(), prop::bool::weighted(0.3))
            .prop_map(|(by, which, suspended)| Operation::Suspend { by, which, suspended }),
        3 => (by(), prop::bool::weighted(0.7), 0u8..6, 0u8..6)
            .prop_map(|(by, settles, min, max)| Operation::SetMint { by, settles, min, max }),
        2 => (by(), any::<u8>(), any::<bool>())
            .prop_map(|(by, which, with_token)| Operation::SetTreasury { by, which, with_token }),
        6 => (by(), 0u8..6, 0u8..12, 0u8..12).prop_map(|(by, bps, facilitator_bps, ttl)| {
            Operation::UpdateConfig { by, bps, facilitator_bps, ttl }
        }),
        2 => (by(), any::<u8>(), any::<u8>(), 0u8..12, 0u8..8).prop_map(
            |(by, which, wallet, mins, relayers)| Operation::UpdateFacilitator {
                by,
                which,
                wallet,
                mins,
                relayers
            }
        ),
        2 => (any::<u8>(), by(), 0u8..4)
            .prop_map(|(office, by, next)| Operation::Propose { office, by, next }),
        2 => (any::<u8>(), by()).prop_map(|(office, by)| Operation::Accept { office, by }),
    ]
}

/// One sequence. It may be short, so that a failure can shrink to the steps that matter.
pub fn sequence() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        12 => settle(),
        6 => outside(),
        5 => payers(),
        4 => services(),
        3 => governance(),
    ];
    vec(operation, 1..=200)
}
